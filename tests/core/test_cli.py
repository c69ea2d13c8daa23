"""``core-run``: what it prints, what it exits with, and what it does not import."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import detcore
import pytest
from attrs import frozen
from detcore import points
from detcore.cli import group, main
from detcore.config.dump import spell
from detcore.errors import ConfigError, Problems
from fake_points import Dist, Point

BASE = """
[model]
type = "OneStage"
neck = {type = "Conv2d", num_outs = 3}
"""
CONFIG = """
_base_ = "base.toml"
[model.neck]
num_outs = 5
[optimizer]
type = "SGD"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "a.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def only_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is installed where the tests run is left out."""
    others = {each.distribution for each in points.installed(points.PLUGINS)} - {"detcore"}
    monkeypatch.setenv("DETCORE_BLOCK_PLUGINS", ",".join(others))


@frozen
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def core_run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str) -> Result:
        with pytest.raises(SystemExit) as exit_:
            main(args)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, captured.out, captured.err)

    return call


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for detcore.run; holds the last call of each function, ``result`` is returned or raised."""
    calls: dict[str, Any] = {"result": None}

    def function(name: str) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            calls[name] = (args, kwargs)
            if isinstance(calls["result"], BaseException):
                raise calls["result"]
            return calls["result"]

        return record

    module = ModuleType("detcore.run")
    module.__dict__.update({name: function(name) for name in ("train", "evaluate", "predict", "check", "schema")})
    monkeypatch.setitem(sys.modules, "detcore.run", module)
    monkeypatch.setattr(detcore, "run", module, raising=False)
    monkeypatch.setitem(sys.modules, "detcore.prediction", module)
    monkeypatch.setattr(detcore, "prediction", module, raising=False)
    return calls


def offer(monkeypatch: pytest.MonkeyPatch, *commands: Point) -> None:
    monkeypatch.setattr(points, "installed", lambda group: points.listed(commands))


TRAINED = {"sets": (), "swaps": (), "resume": None, "work_dir": None, "device": None}


@pytest.mark.parametrize("before", [(), ("train",)])
def test_a_config_alone_is_trained(before: tuple[str, ...], core_run: Run, run: dict[str, Any]) -> None:
    assert core_run(*before, "a.toml", "--set", "x=1", "--set", "y=2", "--swap", "m=N", "--resume", "auto").code == 0
    assert run["train"] == (("a.toml",), {**TRAINED, "sets": ("x=1", "y=2"), "swaps": ("m=N",), "resume": "auto"})


@pytest.mark.parametrize(
    "args", [("detcore::quickstart.toml",), ("--device", "cpu", "a.toml"), ("folder/a.toml", "--work-dir", "runs")]
)
def test_options_may_come_first_and_recipes_are_configs(
    args: tuple[str, ...], core_run: Run, run: dict[str, Any]
) -> None:
    assert core_run(*args).code == 0
    assert run["train"][0][0].endswith(".toml")


def test_a_file_without_suffix_is_a_config(here: Path, core_run: Run, run: dict[str, Any]) -> None:
    (here / "recipe").write_text("")
    assert core_run("recipe").code == 0
    assert run["train"] == (("recipe",), TRAINED)


def test_eval_check_and_schema_are_passed_on(here: Path, core_run: Run, run: dict[str, Any]) -> None:
    core_run("eval", "a.toml", "last.pt", "--device", "cpu")
    expected = {"predictions": None, "output": None, "draw": None, "score": 0.3, "sets": (), "swaps": ()}
    assert run["evaluate"] == (("a.toml", "last.pt"), {**expected, "device": "cpu"})
    core_run("eval", "a.toml", "--predictions", "r.json", "--draw", "d", "--output", "o.json", "--score", "0.5")
    files = {"predictions": "r.json", "output": "o.json", "draw": "d", "score": 0.5, "device": None}
    assert run["evaluate"] == (("a.toml", None), {**expected, **files})
    run["result"] = ["a line", "another"]
    assert core_run("check", "a.toml", "--swap", "m=N").out == "a line\nanother\n"
    assert run["check"] == (("a.toml",), {"sets": (), "swaps": ("m=N",)})
    run["result"] = {"type": "object"}
    assert core_run("schema").out == '{\n  "type": "object"\n}\n'
    assert core_run("schema", "--output", "s.json").out == ""
    assert (here / "s.json").read_text() == '{\n  "type": "object"\n}\n'


def test_errors_of_the_user_are_one_line_each_and_exit_with_2(core_run: Run, run: dict[str, Any]) -> None:
    run["result"] = Problems([ConfigError("a.toml: x", "is wrong", "Write y."), ConfigError("a.toml: z", "is too")])
    result = core_run("a.toml")
    assert (result.code, result.out, result.err) == (2, "", "a.toml: x: is wrong. Write y.\na.toml: z: is too\n")


def test_a_file_that_cannot_be_written_is_one_line(here: Path, core_run: Run, run: dict[str, Any]) -> None:
    run["result"] = {}
    assert core_run("schema", "--output", "a/b.json") == Result(2, "", "a/b.json: No such file or directory\n")
    run["result"] = FileExistsError(17, "File exists", "runs/a")
    assert core_run("a.toml") == Result(2, "", "runs/a: File exists\n")
    run["result"] = OSError("a bug")
    with pytest.raises(OSError, match="a bug"):
        main(["a.toml"])


def test_control_c_exits_with_130(core_run: Run, run: dict[str, Any]) -> None:
    run["result"] = KeyboardInterrupt()
    assert core_run("a.toml").code == 130


def test_a_bug_keeps_its_traceback(run: dict[str, Any]) -> None:
    run["result"] = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        main(["a.toml"])


def test_show_prints_the_folded_config(here: Path, core_run: Run) -> None:
    expected = """\
        [model]
        type = "OneStage"

        [model.neck]
        type = "Conv2d"
        num_outs = 7

        [optimizer]
        type = "SGD"
        """
    assert core_run("show", "a.toml", "--set", "model.neck.num_outs=7").out == textwrap.dedent(expected)


def test_show_origin_names_the_file_of_every_leaf(here: Path, core_run: Run) -> None:
    (here / "a.toml").write_text(CONFIG + "momentum = 0.9\n[[pipe]]\nsize = [1, 2]\nnone = {_none_ = true}\n")
    expected = """\
        model.type = "OneStage"       # base.toml
        model.neck.type = "Conv2d"    # base.toml
        model.neck.num_outs = 5       # a.toml
        optimizer.type = "SGD"        # a.toml
        optimizer.momentum = 0.8      # option --set optimizer.momentum=0.8
        pipe.0.size = [1, 2]          # a.toml
        pipe.0.none = {_none_ = true} # a.toml
        """
    shown = core_run("show", "a.toml", "--origin", "--set", "optimizer.momentum=0.8").out
    assert [line.split() for line in shown.splitlines()] == [line.split() for line in expected.strip().splitlines()]


def test_show_key_prints_the_chain_of_values(here: Path, core_run: Run) -> None:
    shown = core_run("show", "a.toml", "model.neck.num_outs", "--set", "model.neck.num_outs=7").out
    assert shown == (
        "model.neck.num_outs = 7\n  3  # base.toml\n  5  # a.toml\n  7  # option --set model.neck.num_outs=7\n"
    )
    gone = core_run("show", "a.toml", "model.neck.num_outs", "--swap", "model.neck=FPN").out
    assert gone.startswith("model.neck.num_outs = (removed)\n  3  # base.toml\n")
    unknown = core_run("show", "a.toml", "model.nek")
    assert unknown.code == 2
    assert 'no key model.nek. Did you mean "model.neck"?' in unknown.err


def test_warnings_of_the_config_go_to_stderr(here: Path, core_run: Run) -> None:
    result = core_run("show", "a.toml", "--set", "nothing={_delete_=true}")
    assert result.code == 0
    assert result.err.startswith("warning: option --set nothing={_delete_=true}")


def test_diff_compares_results_and_exits_with_1_when_they_differ(here: Path, core_run: Run) -> None:
    result = core_run("diff", "base.toml", "a.toml")
    assert result.code == 1
    assert result.out == (
        'model.neck.num_outs: 3 (base.toml) -> 5 (a.toml)\noptimizer.type: (absent) -> "SGD" (a.toml)\n'
    )
    assert core_run("diff", "a.toml", "a.toml") == Result(0, "", "")


def test_a_config_that_is_not_there(core_run: Run, here: Path) -> None:
    result = core_run("show", "none.toml")
    assert result.code == 2
    assert "none.toml" in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.usefixtures("only_core")
def test_check_no_build_verifies_names(here: Path, core_run: Run) -> None:
    result = core_run("check", "--no-build", "a.toml")
    assert result.code == 0
    unverified, summary = result.out.splitlines()
    assert summary == "a.toml: 2 of 3 names verified, nothing was built"
    assert unverified == (
        'a.toml: optimizer.type: "SGD" is not verified: only a namespace (optimizer, transform) may have it'
    )


@pytest.mark.usefixtures("only_core")
def test_check_no_build_reports_all_problems_at_once(here: Path, core_run: Run) -> None:
    (here / "a.toml").write_text('[a]\ntype = "_OneStag"\nb = [{type = "absent/X"}, {type = "a"}]\n')
    result = core_run("check", "--no-build", "a.toml")
    assert result.code == 2
    first, second = result.err.splitlines()
    assert first.startswith('a.toml: a.type: no component "_OneStag" is installed. Near names are OneStage (detector)')
    assert second.startswith('a.toml: a.b.0.type: no plugin or namespace "absent" for component "absent/X"')


@pytest.mark.usefixtures("only_core")
def test_check_no_build_imports_no_local_module_and_blocks_plugins(here: Path, core_run: Run) -> None:
    (here / "mine.py").write_text("raise RuntimeError")
    (here / "a.toml").write_text('[plugins]\nlocal = ["mine.py"]\nblock = ["detcore"]\n[a]\ntype = "OneStage"\n')
    result = core_run("check", "--no-build", "a.toml")
    assert result.code == 0
    assert f'a.type: "OneStage" is not verified: only {here / "mine.py"} may have it' in result.out


ACME = """
    from detcore import Component, Kind, Namespace, hookimpl
    @hookimpl
    def detcore_components():
        names = [Component("assigner", f"A{i}", "acme_code:A", "assigns") for i in range(4)]
        return [Component("neck", "FPN9", "acme_code:FPN9"), Kind("matcher", "acme_code:M"), Namespace("neck", "acme_m")] + names
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"acme": ACME, "broke": "import nothing_of_this_name"}.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[detcore]\n{name}_nets = {name}_plugin\n")
        (tmp_path / f"{name}_plugin.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_plugins_lists_what_is_installed(core_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = core_run("plugins").out.splitlines()
    assert rows[0].split() == ["plugin", "version", "provides"]
    (acme,) = [row for row in rows if row.startswith("acme/acme_nets ")]
    assert acme.endswith("1.0      neck FPN9, acme_m.*; kind matcher; assigner (4)")
    assert any("broken: ModuleNotFoundError: No module named 'nothing_of_this_name'" in row for row in rows)
    broken = core_run("plugins", "--broken")
    assert broken.code == 1
    assert "acme" not in broken.out
    monkeypatch.setenv("DETCORE_BLOCK_PLUGINS", "acme,broke")
    assert any(row.split() == ["acme/acme_nets", "blocked"] for row in core_run("plugins").out.splitlines())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["acme", "acme_nets", "acme/acme_nets"])
def test_plugins_name_lists_kinds_names_and_targets(name: str, core_run: Run) -> None:
    rows = [row.split() for row in core_run("plugins", name).out.splitlines()]
    assert ["neck", "FPN9", "acme_code:FPN9"] in rows
    assert ["kind", "matcher", "acme_code:M"] in rows
    assert ["assigner", "A0", "acme_code:A", "assigns"] in rows


@pytest.mark.usefixtures("installed")
def test_plugins_name_that_is_unknown_or_broken(core_run: Run) -> None:
    assert core_run("plugins", "acne") == Result(2, "", 'no plugin "acne" is installed. Did you mean "acme"?\n')
    assert core_run("plugins", "broke").err.startswith("broke/broke_nets: version 1.0 cannot be loaded: ModuleNotFound")


def test_a_command_of_a_plugin_runs(monkeypatch: pytest.MonkeyPatch, core_run: Run) -> None:
    @click.command()
    @click.argument("word")
    def shout(word: str) -> None:
        click.echo(word.upper())

    offer(monkeypatch, Point("shout", Dist("acme"), lambda: shout))
    assert core_run("shout", "hello").out == "HELLO\n"


def test_help_lists_commands_of_plugins_without_loading_them(monkeypatch: pytest.MonkeyPatch, core_run: Run) -> None:
    def load() -> Any:
        raise AssertionError

    offer(monkeypatch, Point("shout", Dist("acme"), load), Point("train", Dist("acme"), load))
    assert [line.split() for line in core_run("--help").out.splitlines()].count(["shout", "acme"]) == 1
    monkeypatch.setenv("DETCORE_BLOCK_PLUGINS", "acme")
    assert "Commands of plugins" not in core_run("--help").out


def boom() -> Any:
    raise ImportError("no\nfiglet")


@pytest.mark.parametrize(
    ("commands", "error"),
    [
        ([Point("shout", Dist("a"), boom), Point("shout", Dist("b"), boom)],
         "core-run shout: is a command of a 1.0 and b 1.0. Leave one out with DETCORE_BLOCK_PLUGINS."),
        ([Point("shout", Dist("a"), boom)],
         "core-run shout: the command of a 1.0 cannot be loaded: ImportError: no figlet"),
        ([Point("shout", Dist("a"), lambda: 3)], "core-run shout: a 1.0 gives int, not a click command"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_run(
    commands: list[Point], error: str, monkeypatch: pytest.MonkeyPatch, core_run: Run
) -> None:
    offer(monkeypatch, *commands)
    assert core_run("shout") == Result(2, "", f"{error}\n")


def test_neither_a_command_nor_a_config(core_run: Run, here: Path) -> None:
    result = core_run("trian")
    assert result.code == 2
    assert '"trian" is neither a command nor a config file. Did you mean "train"?' in result.err


EXAMPLES = re.compile(r"^ *(?:Example: )?core-run (.*)", re.MULTILINE)


@pytest.mark.parametrize("name", group.commands)
def test_every_command_has_an_example_that_it_can_parse(name: str) -> None:
    command = group.commands[name]
    examples = EXAMPLES.findall(command.help or "")
    assert examples
    for example in examples:
        word, *args = shlex.split(example.partition(" >")[0])
        assert word == name
        command.make_context(name, args).close()


def test_help_says_what_exit_codes_mean(core_run: Run) -> None:
    said = " ".join(core_run("--help").out.split())
    assert "Exit codes: 0 done; 1 done, but" in said
    assert "2 an error that you can mend" in said


PREDICTED: dict[str, Any] = {
    "checkpoint": None, "output": "predictions", "score": 0.3, "batch_size": None, "draw": True, "sets": (), "swaps": (),
    "device": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("args", "expected", "changed"),
    [
        (["best.pt", "a.jpg", "b"], ("best.pt", ["a.jpg", "b"]), {}),
        (["my.toml", "best.pt", "a.jpg"], ("my.toml", ["a.jpg"]), {"checkpoint": "best.pt"}),
        (["x::y", "b.pth", "a", "c.pt"], ("x::y", ["a", "c.pt"]), {"checkpoint": "b.pth"}),
        (["my.toml", "a.jpg"], ("my.toml", ["a.jpg"]), {}),
        (["b.pt", "a", "--no-draw", "--score", "0.5"], ("b.pt", ["a"]), {"draw": False, "score": 0.5}),
        (["b.pt", "--output", "o", "a", "--batch-size", "4"], ("b.pt", ["a"]), {"output": "o", "batch_size": 4}),
    ],
)
def test_predict_tells_configs_checkpoints_and_inputs_apart(
    args: list[str], expected: tuple[Any, ...], changed: dict[str, Any], core_run: Run, run: dict[str, Any]
) -> None:
    run["result"] = []
    assert core_run("predict", *args) == Result(0, "", "")
    assert run["predict"] == (expected, {**PREDICTED, **changed})


def test_predict_names_what_it_could_not_read_and_exits_with_1(core_run: Run, run: dict[str, Any]) -> None:
    run["result"] = [ConfigError("a.png", "is cut off")]
    assert core_run("predict", "best.pt", "photos") == Result(1, "", "a.png: is cut off\n")


@pytest.mark.parametrize("args", [["best.pt"], ["my.toml", "best.pt"]])
def test_predict_without_an_input_is_an_error(args: list[str], core_run: Run, run: dict[str, Any]) -> None:
    result = core_run("predict", *args)
    assert result.code == 2
    assert "an INPUT is missing: an image, a folder, a quoted glob or a video" in result.err


@pytest.mark.parametrize("option", [["--score", "2"], ["--batch-size", "0"]])
def test_predict_refuses_numbers_that_cannot_be(option: list[str], core_run: Run, run: dict[str, Any]) -> None:
    assert core_run("predict", "best.pt", "a.jpg", *option).code == 2


@pytest.mark.parametrize(
    ("value", "toml"),
    [(None, "{_none_ = true}"), ({"a b": [1, (True,)]}, '{"a b" = [1, [true]]}'), ("x", '"x"'), (1.0, "1.0")],
)
def test_values_are_spelt_as_toml(value: object, toml: str) -> None:
    assert spell(value) == toml


HEAVY = "'torch', 'torchvision', 'numpy', 'pydantic', 'rich'"


@pytest.mark.parametrize(
    ("args", "modules"),
    [
        (["--help"], f"{HEAVY}, 'pluggy', 'attr', 'detcore.plugins', 'detcore.components'"),
        (["show", "--help"], f"{HEAVY}, 'pluggy', 'importlib_metadata'"),
        (["show", "a.toml"], f"{HEAVY}, 'detcore.components'"),
        (["show", "a.toml", "--origin"], f"{HEAVY}, 'detcore.components'"),
        (["diff", "a.toml", "a.toml"], f"{HEAVY}, 'detcore.components'"),
        (["predict", "--help"], f"{HEAVY}, 'pluggy', 'importlib_metadata'"),
        (["completion", "zsh"], HEAVY),
        (["new", "--help"], f"{HEAVY}, 'pluggy', 'importlib_metadata', 'cookiecutter'"),
        (["new", "loss", "odd-loss"], HEAVY.removesuffix(", 'rich'")),  # cookiecutter asks with it
        (["plugins"], HEAVY),
        (["plugins", "core"], HEAVY),
        (["check", "--no-build", "a.toml"], HEAVY),
    ],
)
def test_light_commands_import_nothing_heavy(args: list[str], modules: str, here: Path) -> None:
    code = f"""
        import sys
        from detcore.cli import main
        try:
            main({args})
        except SystemExit as exit:
            assert exit.code == 0, exit.code
        assert not {{{modules}}} & set(sys.modules), {{{modules}}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, stdout=subprocess.DEVNULL)


def test_the_console_script_exits_without_a_traceback(here: Path) -> None:
    script = Path(sys.executable).with_name("core-run")
    if not script.exists():
        pytest.skip(f"{script} is not installed")
    run = subprocess.run([script, "show", "none.toml"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1)


def test_a_closed_pipe_is_no_traceback(here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with io.FileIO(write, "w") as pipe:
        run = subprocess.run(
            [sys.executable, "-c", "from detcore.cli import main; main(['show', 'a.toml'])"],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert "Traceback" not in run.stderr
