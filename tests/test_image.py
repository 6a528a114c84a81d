"""Dockerfile.cuda and configs/gpu.toml: nothing builds the image here, so they are read closely."""

import json
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

from daemon.cli import cli
from daemon.config import Settings, load
from daemon.media.render import _DECODED_FRAMES

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


@dataclass
class Stage:
    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for word, rest in self.steps if word == instruction]

    def one(self, instruction: str) -> str:
        (found,) = self.all(instruction)
        return found

    @property
    def environment(self) -> dict[str, str]:
        pairs = [pair for rest in self.all("ENV") for pair in shlex.split(rest)]
        return dict(pair.split("=", 1) for pair in pairs)


def stages(text: str) -> list[Stage]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(name, base))
        else:
            found[-1].steps.append((word, rest))
    return found


BUILD, FINAL = stages((ROOT / "Dockerfile.cuda").read_text())


def test_only_what_is_known_is_written_there() -> None:
    """A word that Docker does not know, or one of the shell form where signals would not arrive, fails the build."""
    known = {"RUN", "ENV", "COPY", "WORKDIR", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT"}
    assert {word for stage in (BUILD, FINAL) for word, _ in stage.steps} <= known | {"CMD"}
    assert json.loads(FINAL.one("ENTRYPOINT")) == ["thumbd"]
    assert json.loads(FINAL.one("CMD")) == ["serve"]


def test_both_stages_have_the_same_python() -> None:
    """The virtual environment of one is used in the other."""
    assert BUILD.base == FINAL.base
    assert "/" not in FINAL.base, "a public base image by its bare name"
    major, minor = re.match(r"python:(\d+)\.(\d+)-", FINAL.base).groups()  # type: ignore[union-attr]
    assert (int(major), int(minor)) >= tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert BUILD.environment["PATH"].split(":")[0] == FINAL.environment["PATH"].split(":")[0]


def copies(stage: Stage) -> list[tuple[str, list[str]]]:
    """Where from, and what, of each COPY."""
    words = [shlex.split(rest) for rest in stage.all("COPY")]
    return [
        (
            each[0].removeprefix("--from=") if each[0].startswith("--from=") else "",
            [w for w in each[:-1] if w[:2] != "--"],
        )
        for each in words
    ]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder: the last line that fits it, or a folder above, counts."""
    verdict = False
    above = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            anywhere = pattern.startswith("**/")
            fitting = [Path(part).name for part in above] if anywhere else above
            if any(fnmatch(part, pattern.removeprefix("**/")) for part in fitting):
                verdict = not line.startswith("!")
    return verdict


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    local = [source for stage in (BUILD, FINAL) for where, sources in copies(stage) if not where for source in sources]
    assert {"daemon", "kernels", "pyproject.toml", "configs/gpu.toml"} <= set(local)
    for source in local:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
    assert [sources for where, sources in copies(FINAL) if where == BUILD.name] == [["/opt/thumbd"]]


def test_all_that_the_package_is_made_of_is_copied() -> None:
    copied = {source for _, sources in copies(BUILD) for source in sources}
    for pattern in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"][
        "include"
    ]:
        assert pattern.rstrip("*") in copied
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= copied


@pytest.mark.parametrize(
    "path", [".git/config", "tests/test_image.py", "thumbd-data/store/a", "daemon/__pycache__/a.pyc"]
)
def test_nothing_else_is_sent_to_the_builder(path: str) -> None:
    assert ignored(path)


def test_what_is_installed_is_what_the_project_offers() -> None:
    (install,) = [step for step in BUILD.all("RUN") if "pip install" in step]
    extras = re.search(r"\.\[([a-z,]+)\]", install)
    assert extras is not None and {"gpu", "postgres"} <= set(extras[1].split(",")) <= set(
        PROJECT["optional-dependencies"]
    )
    needed = " ".join(PROJECT["optional-dependencies"]["gpu"])
    # The image has no CUDA of its own: CuPy has to find the compiler of the kernel among the packages.
    assert all(name in needed for name in ("PyNvVideoCodec", "cupy-cuda13x", "nvidia-cuda-nvrtc"))
    assert all(name in needed for name in ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13", "nvidia-nvjpeg"))


def test_it_does_not_run_as_root_and_owns_what_it_writes() -> None:
    words = [word for word, _ in FINAL.steps]
    user, group = FINAL.one("USER").split(":")
    assert int(user) > 0 and int(group) > 0, "a number, so that a cluster can tell that it is not root"
    assert words.index("USER") > max(n for n, word in enumerate(words) if word == "RUN")
    (made,) = FINAL.all("RUN")
    assert f"--uid {user}" in made and f"--gid {group}" in made
    for folder in json.loads(FINAL.one("VOLUME")):
        assert folder in made.split("install --directory", 1)[1].split()


def test_the_settings_in_the_environment_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file that the image has, and volumes for all that is written."""
    environment = FINAL.environment
    for name, value in environment.items():
        if name.startswith("THUMBD_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("THUMBD_CONFIG", str(ROOT / "configs" / "gpu.toml"))
    assert environment["THUMBD_CONFIG"] in [shlex.split(rest)[-1] for rest in FINAL.all("COPY")]
    settings = load(None)
    volumes = set(json.loads(FINAL.one("VOLUME")))
    database = settings.database.removeprefix("sqlite:///")
    assert {str(settings.spool.root), str(settings.store.root), str(Path(database).parent)} == volumes
    assert settings.device.startswith("cuda")
    assert [str(root) for root in settings.sources.roots] == ["/media"]


def test_the_health_check_asks_where_the_daemon_listens() -> None:
    host, port = FINAL.environment["THUMBD_METRICS__LISTEN"].split(":")
    check = FINAL.one("HEALTHCHECK")
    assert host == "0.0.0.0" and port == FINAL.one("EXPOSE")
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"] and f"127.0.0.1:{port}/livez" in command[2]
    compile(command[2], "health", "exec")


def test_the_driver_is_asked_for_its_video_part() -> None:
    capabilities = FINAL.environment["NVIDIA_DRIVER_CAPABILITIES"].split(",")
    assert set(capabilities) == {"compute", "utility", "video"}


def test_no_secret_is_in_it() -> None:
    text = (ROOT / "Dockerfile.cuda").read_text()
    assert not re.search(r"(?i)(password|token|secret|api_key|ARG )", text)
    assert not re.findall(r"https?://(?!127\.0\.0\.1)", text)


def test_the_command_is_one_that_thumbd_has() -> None:
    named = {command.name or getattr(command.callback, "__name__", "") for command in cli.registered_commands}
    assert json.loads(FINAL.one("CMD"))[0] in named


# --- configs/gpu.toml -------------------------------------------------------------------------------------------


def test_the_gpu_settings_are_taken_and_differ_with_a_reason() -> None:
    text = (ROOT / "configs" / "gpu.toml").read_text()
    said, default = tomllib.loads(text), Settings.model_construct().model_dump(mode="json")
    settings = load(ROOT / "configs" / "gpu.toml")
    assert settings.workers * settings.threads >= 2 * 7, "two decoders for each of the seven engines of an H100"
    for key, value in said.items():
        assert key in default and value != default[key], f"{key} is the default: leave it out"
    # As the reason beside it says: four decoders of 4K in 10 bit.
    assert settings.job.decoded_bytes >= 4 * 3840 * 2160 * 3 * _DECODED_FRAMES


def test_numbers_that_nobody_measured_are_called_estimates() -> None:
    text = (ROOT / "configs" / "gpu.toml").read_text()
    measured = list((ROOT / "bench" / "results").glob("nvidia-*.json"))
    assert measured or "None of these numbers was measured on a GPU yet" in text
