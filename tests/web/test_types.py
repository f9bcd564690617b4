"""The types that comments give to the modules, by the TypeScript compiler; and the declarations that it writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from softstate.web import bundle
from tests.kit.node_js import WEB, node_js
from tests.kit.npm import npm_folder

DECLARATIONS = "softstate.d.ts"


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = npm_folder(tmp_path_factory, "typescript@5.9")
    # The compiler's own declarations of the language and of browsers are left unchecked.
    return [node_js(), str(folder / "node_modules" / "typescript" / "bin" / "tsc"), "--skipDefaultLibCheck"]


@pytest.mark.timeout(300)
def test_every_module_has_the_types_that_it_says(compiler: list[str]) -> None:
    command = [*compiler, "--project", str(WEB / "tsconfig.json")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.timeout(300)
def test_the_declarations_are_those_of_the_modules(compiler: list[str], tmp_path: Path) -> None:
    source = tmp_path / "softstate.js"
    source.write_text(bundle.documented(bundle.BUNDLES[source.name]), "utf-8")
    options = ["--allowJs", "--declaration", "--emitDeclarationOnly", "--target", "es2022", "--module", "esnext"]
    libraries = ["--lib", "es2023,dom,dom.iterable", "--outDir", str(tmp_path / "made")]
    command = [*compiler, "--strict", "--moduleResolution", "bundler", *options, *libraries, str(source)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout
    made = (tmp_path / "made" / DECLARATIONS).read_text("utf-8")
    assert (WEB / DECLARATIONS).read_text("utf-8") == made, f"copy it: {tmp_path / 'made' / DECLARATIONS}"


def test_the_declarations_are_complete(compiler: list[str]) -> None:
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext"]
    command = [*compiler, *options, "--lib", "es2023,dom,dom.iterable", str(WEB / DECLARATIONS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout
