"""Local learning written slowly: the oracle of the streamed backward."""

import copy

import torch

from pretrain.encoders import run_block
from pretrain.losses.info_nce import info_nce


def loss(embeddings):
    return info_nce(embeddings, 0.1)


def slow_gradients(encoder, units, decoders, images):
    """Every unit by itself, from copies of the encoder.

    One copy runs below the unit and gives a constant input; in another the unit's blocks run alone,
    differentiated by autograd from end to end. The gradients of the copies are added.
    """
    losses, total = [], {name: torch.zeros_like(p) for name, p in encoder.named_parameters()}
    decoder_grads = []
    for unit, decoder in zip(units, decoders, strict=True):
        below, alone = copy.deepcopy(encoder), copy.deepcopy(encoder)
        head = copy.deepcopy(decoder)
        x = images
        with torch.no_grad():
            for block in below.blocks()[: unit.start]:
                x = run_block(block, x)
        for block in alone.blocks()[unit.start : unit.stop]:
            x = run_block(block, x)
        unit_loss = loss(head(x))
        with torch.autocast(images.device.type, enabled=False):
            unit_loss.backward()
        losses.append(unit_loss.detach())
        decoder_grads.append([p.grad for p in head.parameters()])
        for name, parameter in alone.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad
    return losses, total, decoder_grads
