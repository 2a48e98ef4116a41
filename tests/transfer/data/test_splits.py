"""Splits: the same for ever, exact in size, without replacement, independent between seeds."""

import hashlib
import json
import random
from itertools import combinations, pairwise

import pytest

from transfer.data.dataset_check import check_coco
from transfer.data.splits import check_split, draw, ids_file, ids_sha256, select, verify_split
from transfer.splits import main

TRAIN2017 = range(1, 118_287 + 1)  # as many ids as train2017 has images


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[int, int], list[int]]:
    return {
        (size, seed): draw(TRAIN2017, size, seed) for size in (1000, 10000) for seed in range(5)
    }


def test_the_draw_by_hand():
    """By coreutils, printf "7 1" | sha256sum and so on: 6a31..., 8847..., 0f3d..., 0f0e..."""
    assert draw([40, 3, 2, 1], 1, seed=7) == [40]
    assert draw([40, 3, 2, 1], 2, seed=7) == [3, 40]
    assert draw([40, 3, 2, 1], 3, seed=7) == [1, 3, 40]


# sha256 of the ids, one a line. If one of these changes, every published result loses its split.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "seed", "digest", "first"),
    [
        (1000, 0, "fc5cde05b9718510f6a94f79799f9aa8b027f50a467ed79c768dbcf115b8e056",
         [61, 341, 608, 629]),
        (1000, 1, "716872ee489cf517a92e466db951e923e694444f9719a142fea0a23b47d9257d",
         [1, 133, 328, 405]),
        (1000, 2, "2e8bdad886f2a380b6dfd692f1eeb5e93aaa5b455da155f6dfc1f892a88f85df",
         [348, 411, 461, 567]),
        (1000, 3, "204c50b8e5acd802d8844ae7e95e124b3644d0464d5a2a4ad3ab26270c39166a",
         [56, 83, 195, 393]),
        (1000, 4, "4f728298858df3c52ee168fa293e066bb8d5701b125b7b7959f1197ae927a31a",
         [132, 153, 316, 810]),
        (10000, 0, "35755a08276290b8a3413da0686866413bb42c951199ecbe1f8ebb11e8cdc265",
         [38, 44, 61, 68]),
        (10000, 1, "27273d2c04f3b035b985376efd8e3344a8deffe0d28c82f24aa00e2d958e9b86",
         [1, 16, 20, 24]),
        (10000, 2, "0dbd446d0f2fe844dd88fca8f27206442fad3f176ff42c44034ddb9e0ab221d6",
         [2, 6, 21, 36]),
        (10000, 3, "a48b86c20a220f65aa15c3847cc2e76bab03bb375e027c64c3de6c8a5b3d4594",
         [9, 19, 38, 39]),
        (10000, 4, "aa4a02fd316edb05075c3fdf348964e322bf955ea696cacc9efd051fd61104d0",
         [6, 11, 13, 30]),
    ],
)  # fmt: skip
def test_the_splits_are_what_they_are(drawn, size, seed, digest, first):
    ids = drawn[size, seed]
    assert ids[:4] == first and ids_sha256(ids) == digest
    assert len(ids) == size and set(ids) <= set(TRAIN2017)
    assert all(a < b for a, b in pairwise(ids))


def test_order_of_the_file_plays_no_part(drawn):
    shuffled = list(TRAIN2017)
    random.Random(3).shuffle(shuffled)
    assert draw(shuffled, 1000, 0) == drawn[1000, 0]


@pytest.mark.parametrize("size", [1000, 10000])
def test_seeds_overlap_as_chance_has_it(drawn, size):
    """Hypergeometric: mean n^2 / N, variance n (n/N) (1 - n/N) (N - n) / (N - 1)."""
    population = len(TRAIN2017)
    share = size / population
    mean = size * share
    deviation = (size * share * (1 - share) * (population - size) / (population - 1)) ** 0.5
    for a, b in combinations(range(5), 2):
        overlap = len(set(drawn[size, a]) & set(drawn[size, b]))
        assert abs(overlap - mean) < 4 * deviation, (a, b, overlap)


def test_every_image_is_as_likely(drawn):
    """Mean of the ids of a uniform draw: (N + 1) / 2, standard error N / sqrt(12 n)."""
    for (size, seed), ids in drawn.items():
        error = len(TRAIN2017) / (12 * size) ** 0.5
        assert abs(sum(ids) / size - (len(TRAIN2017) + 1) / 2) < 4 * error, (size, seed)


@pytest.mark.parametrize(
    ("ids", "size", "seed", "words"),
    [
        ([1, 2], 3, 0, "cannot draw 3 of 2 images"),
        ([1, 2], 0, 0, "cannot draw 0 of 2"),
        ([1, 2, 2], 1, 0, "1 image ids come twice"),
        ([1, 2], 1, -1, "the seed is -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ids, size, seed, words):
    with pytest.raises(ValueError, match=words):
        draw(ids, size, seed)


@pytest.fixture
def source(coco):
    return coco / "annotations/instances_train2017.json"


def command(source, size, seed, out):
    return [str(source), "--size", str(size), "--seed", str(seed), "--out", str(out)]


def test_the_command_writes_a_dataset_that_is_whole(coco, source, tmp_path, capsys):
    out = tmp_path / "split.json"
    arguments = command(source, 5, 1, out)
    assert main(arguments) == 0
    whole, split = json.loads(source.read_text()), json.loads(out.read_text())
    manifest = json.loads(ids_file(out).read_text())
    assert [image["id"] for image in split["images"]] == manifest["ids"]
    assert manifest["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["sha256"] == ids_sha256(manifest["ids"])
    chosen = [a for a in whole["annotations"] if a["image_id"] in manifest["ids"]]
    assert split["annotations"] == sorted(chosen, key=lambda a: a["id"])
    assert split["categories"] == whole["categories"]
    assert check_coco(out, coco / "train2017").images == 5
    assert main([*arguments, "--verify"]) == 0
    assert "5 of 16 images, seed 1" in capsys.readouterr().out
    assert main(command(source, 1000, 0, tmp_path / "large.json")) == 1
    assert "cannot draw 1,000 of 16 images" in capsys.readouterr().err
    assert not (tmp_path / "large.json").exists()


def test_a_shuffled_file_gives_the_same_bytes(source, tmp_path):
    document = json.loads(source.read_text())
    for key in ("images", "annotations"):
        random.Random(0).shuffle(document[key])
    shuffled = tmp_path / "shuffled.json"
    shuffled.write_text(json.dumps(document))
    outs = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, out in zip((source, shuffled), outs, strict=True):
        assert main(command(path, 7, 2, out)) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


# ---- files that do not agree ---------------------------------------------------------------------


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def another_id(manifest):
    manifest["ids"] = sorted([*manifest["ids"][1:], ({*range(1, 17)} - {*manifest["ids"]}).pop()])


HARMS = {  # what is done to the ids file (or to the split): what verify and what a run say
    "an annotation less": (
        "json", lambda split: split["annotations"].pop(),
        "does not hold the images and annotations of its ids", None,
    ),
    "an image less": (
        "json", lambda split: split["images"].pop(),
        "does not hold the images and annotations", "1 are in only one of them",
    ),
    "another id": ("ids.json", another_id, "lists other images than size 5 and seed 1 draw",
                   "its ids have another sha256"),
    "another seed": ("ids.json", lambda ids: ids.update(seed=2), None,
                     "of size 5 and seed 2, where size 5 and seed 1 were"),
    "no size": ("ids.json", lambda ids: ids.pop("size"), "is no list of ids",
                r"is no list of ids \(it lacks 'size'\)"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_what_disagrees_is_named_with_the_command(harm, source, tmp_path, capsys):
    out = tmp_path / "split.json"
    assert main(command(source, 5, 1, out)) == 0
    ending, change, by_verify, by_a_run = HARMS[harm]
    changed(out.with_suffix(f".{ending}"), change)
    assert main([*command(source, 5, 1, out), "--verify"]) == (1 if by_verify else 0)
    error = capsys.readouterr().err
    assert not by_verify or (by_verify in error and "--size 5 --seed 1" in error)
    if by_a_run:
        with pytest.raises(ValueError, match=f"{by_a_run}.*python -m transfer.splits .*--size 5"):
            check_split(source, 5, 1, out)
    else:
        check_split(source, 5, 1, out)


def test_a_file_that_is_missing_or_garbled_is_named(source, tmp_path):
    out = tmp_path / "split.json"
    assert main(command(source, 5, 1, out)) == 0
    ids_file(out).write_text("[]")
    for check in (check_split, verify_split):
        with pytest.raises(ValueError, match="is no list of ids"):
            check(source, 5, 1, out)
    ids_file(out).unlink()
    for check in (check_split, verify_split):
        with pytest.raises(FileNotFoundError, match="has no list of ids.* --size 5 --seed 1 "):
            check(source, 5, 1, out)
    out.unlink()
    with pytest.raises(FileNotFoundError, match="There is no annotation file .* --size 5 --seed 1"):
        check_split(source, 5, 1, out)


def test_select_keeps_what_else_the_file_says():
    document = {"info": {"year": 2017}, "images": [{"id": 2}, {"id": 1}], "annotations": []}
    assert select(document, [1]) == {
        "info": {"year": 2017}, "images": [{"id": 1}], "annotations": [],
    }  # fmt: skip
