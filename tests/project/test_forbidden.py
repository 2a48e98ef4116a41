"""What no module may do: run what a file holds, load weights in part, swallow errors, use a shell.

Read from the syntax tree, so that a word in a docstring is none and a line break hides nothing.
"""

import ast

import pytest

from tests.helpers.places import ROOT

MODULES = sorted(p for top in ("pretrain", "transfer", "results", "tools", "configs")
                 for p in (ROOT / top).rglob("*.py"))  # fmt: skip
IMPORTS = {  # modules that run what they read
    *("cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "yaml", "code"),
}
FROM_PICKLE = {"UnpicklingError", "dumps"}  # what may be used of it
CALLS = {  # by their last two names
    "eval", "exec", "__import__", "os.system", "os.popen", "pd.read_pickle", "pd.eval", "jit.load",
}  # fmt: skip
KEYWORDS = {"weights_only": True, "allow_pickle": False, "strict": True, "shell": False}


def faults(tree: ast.AST, name: str) -> list[str]:
    found = []
    for node in ast.walk(tree):
        place = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if node.type is None or (broad and not _uses(node)):
                found.append(f"{place}: an error is swallowed")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [f"{place}: imports {module}" for module in _imported(node)]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
            found += [f"{place}: pickle.{node.attr}"] * (node.attr not in FROM_PICKLE)
        elif isinstance(node, ast.Call):
            found += [f"{place}: {fault}" for fault in _call(node)]
    return found


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What is forbidden of an import."""
    if isinstance(node, ast.Import):
        return [each.name for each in node.names if each.name.split(".")[0] in IMPORTS]
    if node.module == "pickle":
        return [each.name for each in node.names if each.name not in FROM_PICKLE]
    return [node.module] if (node.module or "").split(".")[0] in IMPORTS else []


def _uses(handler: ast.ExceptHandler) -> bool:
    """Whether an error that is caught broadly is raised again, or told."""
    if any(isinstance(node, ast.Raise) for node in ast.walk(handler)):
        return True
    names = [node.id for each in handler.body for node in ast.walk(each)
             if isinstance(node, ast.Name)]  # fmt: skip
    return handler.name is not None and handler.name in names


def _call(node: ast.Call) -> list[str]:
    called = ".".join(ast.unparse(node.func).split(".")[-2:])
    keywords = {each.arg: each.value for each in node.keywords}
    found = [f"calls {called}"] if called in CALLS else []
    for keyword, allowed in KEYWORDS.items():
        value = keywords.get(keyword)
        if value is not None and not (
            isinstance(value, ast.Constant) and value.value is allowed
        ) and (keyword != "strict" or "load" in called):  # fmt: skip
            found.append(f"{called}({keyword}={ast.unparse(value)})")
    if called == "torch.load" and "weights_only" not in keywords:
        found.append("torch.load without weights_only=True")
    if called == "np.load" and not {"allow_pickle", "mmap_mode"} & keywords.keys():
        found.append("np.load without allow_pickle=False")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_forbidden(path):
    name = path.relative_to(ROOT).as_posix()
    assert faults(ast.parse(path.read_text()), name) == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f)", "torch.load(f, weights_only=False)", "torch.load(f, weights_only=flag)",
        "np.load(f, allow_pickle=True)", "np.load(f)", "model.load_state_dict(s, strict=False)",
        "subprocess.run('ls', shell=True)", "eval('1')", "exec(text)", "os.system('ls')",
        "pickle.loads(b)", "pickle.Unpickler(f)", "from pickle import loads",
        "import yaml", "__import__('os')",
        "try:\n  pass\nexcept:\n  pass", "try:\n  pass\nexcept Exception:\n  pass",
        "try:\n  pass\nexcept Exception as error:\n  x = 1",
        "try:\n  pass\nexcept BaseException:\n  x = None", "pd.read_pickle(f)",
    ],
)  # fmt: skip
def test_each_of_these_is_found(code):
    assert len(faults(ast.parse(code), "pretrain/x.py")) == 1


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f, weights_only=True)", "np.load(f, allow_pickle=False)", "model.eval()",
        "zip(a, b, strict=False)", "re.compile('a')", "'torch.load(f)'",
        "try:\n  pass\nexcept Exception as error:\n  raise ValueError(f) from error",
        "try:\n  pass\nexcept ValueError:\n  pass",
    ],
)  # fmt: skip
def test_and_these_are_not(code):
    assert faults(ast.parse(code), "pretrain/x.py") == []


def test_torchs_list_of_classes_is_left_alone():
    """No class is added to what ``weights_only`` lets through: checkpoints are of plain data."""
    text = "\n".join(path.read_text() for path in MODULES)
    assert "add_safe_globals" not in text and "safe_globals(" not in text
    assert "FORCE_NO_WEIGHTS_ONLY" not in text
