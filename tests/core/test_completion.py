"""The shell completes: asked as its script asks, through the environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from detcore.cli import main
from detcore.cli.commands import group
from detcore.plugins import recipes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "deep").mkdir(parents=True)
    for name in ("a.toml", "configs/b.toml", "configs/deep/c.toml"):
        (tmp_path / name).write_text("")
    return tmp_path


def complete(words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash would offer for the last of ``words`` (which ``_`` ends where it is not begun)."""
    monkeypatch.setenv("_CORE_RUN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words.removesuffix("_"))
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit) as exit_:
        main([])
    captured = capsys.readouterr()
    assert (exit_.value.code, captured.err) == (0, "")
    return captured.out.split()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("core-run pre", ["plain,predict"]),
        ("core-run a", ["plain,a.toml"]),
        ("core-run conf", ["plain,configs/b.toml"]),
        ("core-run eval configs/", ["plain,configs/b.toml", "plain,configs/deep/c.toml"]),
        ("core-run eval detcore::quick", ["plain,detcore::quickstart.toml"]),
        ("core-run a.toml --res", ["plain,--resume"]),
        ("core-run show a.toml --ori", ["plain,--origin"]),
        ("core-run diff a.toml configs/d", ["plain,configs/deep/c.toml"]),
        ("core-run plugins detcor", None),
        ("core-run eval a.toml run", ["file,run"]),
        ("core-run completion f", ["plain,fish"]),
        ("core-run nonsense --dra", []),
    ],
)
def test_words_are_completed(
    words: str, offered: list[str] | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = complete(words, capsys, monkeypatch)
    if offered is None:
        assert "plain,detcore" in found
    else:
        assert found == offered


@pytest.mark.usefixtures("here")
def test_the_first_word_is_a_command_or_a_config(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = complete("core-run _", capsys, monkeypatch)
    assert {f"plain,{name}" for name in group.commands} <= {*offered}
    assert {"plain,a.toml", "plain,configs/b.toml", "plain,detcore::quickstart.toml"} <= {*offered}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["completion", shell])
    assert exit_.value.code == 0
    script = capsys.readouterr().out
    assert f"_CORE_RUN_COMPLETE={shell}_complete" in script
    assert "core-run" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["completion", "csh"])
    assert exit_.value.code == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_itself_completes_recipes_whose_names_hold_colons(here: Path) -> None:
    """The function that the script defines is called as bash calls it."""
    script = Path(sys.executable).with_name("core-run")
    code = f"""
        eval "$({script} completion bash)"
        COMP_WORDS=({script} eval detcore::quick) COMP_CWORD=2
        _core_run_completion {script}
        printf '%s\\n' "${{COMPREPLY[@]}}" "breaks at $COMP_WORDBREAKS"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=here)
    assert done.stdout.splitlines()[0] == "detcore::quickstart.toml"
    assert ":" not in done.stdout.splitlines()[1]


def test_completing_imports_nothing_heavy(here: Path) -> None:
    code = """
        import os, sys
        from detcore.cli import main
        os.environ |= {"_CORE_RUN_COMPLETE": "bash_complete", "COMP_WORDS": "core-run eval detcore::", "COMP_CWORD": "2"}
        try:
            main([])
        except SystemExit as exit:
            assert exit.code == 0
        assert not {"torch", "numpy", "pydantic", "rich"} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "detcore::quickstart.toml" in done.stdout


def test_recipes_of_installed_packages_are_found_and_fragments_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme-1.0.dist-info").mkdir()
    (tmp_path / "acme-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (tmp_path / "acme-1.0.dist-info" / "entry_points.txt").write_text("[detcore]\nacme = acme_pkg.plugin\n")
    for name in ("a.toml", "deep/b.toml", "_base_/c.toml"):
        (tmp_path / "acme_pkg" / "configs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "acme_pkg" / "configs" / name).write_text("")
    (tmp_path / "acme_pkg" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert [name for name in recipes() if name.startswith("acme")] == ["acme::a.toml", "acme::deep/b.toml"]
