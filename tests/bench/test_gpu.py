"""`make gpu` without a card: its parts on the CPU, captures with a fake CUDA, the page from files of a fake card."""

from __future__ import annotations

import contextlib
import inspect
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.performance.gpu import __main__ as program
from gradmeter.bench.performance.gpu import agreement, crossover, forms, noise_floor, page
from gradmeter.bench.performance.gpu.record import Record, read
from gradmeter.estimators import UsageError
from tests.support import needs

SQUARE = ("square[k=2,dim=10]", "pathwise")


# Files of parts


def test_a_part_s_file_holds_all_that_is_known_at_any_moment(tmp_path: Path) -> None:
    record = Record(tmp_path / "new" / "a.json", seconds=1e9)
    record.say(part="a")
    record.add(seconds=1.5)
    assert record.may("the second")
    assert read(record.path) == {"part": "a", "lines": [{"seconds": 1.5}], "left_out": []}
    record.seconds = 0.0
    assert not record.may("the third")
    assert read(record.path)["left_out"] == ["the third"]
    assert [path.name for path in record.path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", [None, "", "[1]", '{"lines": '])
def test_a_missing_or_damaged_file_has_no_lines(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    assert read(path) == {"lines": [], "left_out": []}


# Forms of a kernel


@pytest.mark.parametrize(("backend", "form"), [("numpy", "eager"), ("torch", "eager"), ("jax", "compiled")])
def test_a_form_averages_estimates_of_fresh_noise(backend: str, form: str) -> None:
    """E ĝ for f = Σ (z − 2)² at loc = 0.5, scale = 1: 2 (loc − k) = −3 and 2 scale² = 2 (log σ)."""
    needs(backend)
    s = forms.setting("square[k=2,loc=0.5,dim=3]", "pathwise", backend, "cpu", "float64", 2**14)
    call = forms.call(form, s)
    first, second = ({n: s.backend.to_numpy(a).reshape(-1) for n, a in call.run().items()} for _ in range(2))
    assert call.replicates == 2**14
    assert call.device_seconds(1) is call.peak_memory() is None
    scale = float(np.exp(s.backend.to_numpy(s.parameters["log_scale"])[0]))
    np.testing.assert_allclose(first["loc"], -3.0, atol=8 * 2 * scale / 2**7)
    assert backend == "jax" or not np.array_equal(first["loc"], second["loc"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["compiled", "fused"])
def test_compiled_forms_average_the_same_estimates(form: str) -> None:
    needs("torch")
    s = forms.setting("square[k=2,loc=0.5,dim=3]", "pathwise", "torch", "cpu", "float64", 2**12)
    found = s.backend.to_numpy(forms.call(form, s).run()["loc"]).reshape(-1)
    np.testing.assert_allclose(found, -3.0, atol=0.4)


def test_there_is_no_graph_without_cuda() -> None:
    needs("torch")
    s = forms.setting(*SQUARE, "torch", "cpu", "float64", 64)
    with pytest.raises(UsageError, match="a CUDA graph needs a CUDA device"):
        forms.call("graph", s)


class FakeCuda:
    """CUDA's streams and graphs: a graph replays what was called while it was captured."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.capturing: FakeGraph | None = None

    def stream_named(self, name: str) -> Any:
        return types.SimpleNamespace(
            name=name, wait_stream=lambda other: self.said.append(f"{name} waits {other.name}")
        )

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.said.append(f"on {stream.name}")
        yield

    @contextlib.contextmanager
    def graph(self, graph: FakeGraph) -> Iterator[None]:
        self.said.append("capture")
        self.capturing = graph
        yield
        self.capturing = None

    def work(self) -> dict[str, int]:
        if self.capturing is None:
            self.said.append("work")
        else:
            self.capturing.tasks.append("work")
        return {"loc": 1}


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.tasks = cuda, list[str]()

    def register_generator_state(self, generator: str) -> None:
        self.cuda.said.append(f"register {generator}")

    def replay(self) -> None:
        self.cuda.said.append(f"replay {','.join(self.tasks)}")


def test_a_capture_follows_the_warm_up_and_registers_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    fake = FakeCuda()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: fake.stream_named("main"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: fake.stream_named("side"))
    monkeypatch.setattr(torch.cuda, "stream", fake.stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeGraph(fake))
    real = inspect.signature(torch.cuda.graph)
    monkeypatch.setattr(torch.cuda, "graph", fake.graph)
    s: Any = types.SimpleNamespace(backend=types.SimpleNamespace(device="cuda"))
    replay, results = forms.captured(s, fake.work, ["g"])
    warm = ["work"] * forms.WARM_UPS
    assert fake.said == ["work", "side waits main", "on side", *warm, "main waits side", "register g", "capture"]
    assert results == {"loc": 1}
    fake.said.clear()
    assert replay() == results
    assert fake.said == ["replay work"]
    real.bind(object())


# Parts


def test_gradients_of_one_noise_agree_between_backends() -> None:
    for backend, form in (("torch", "eager"), ("jax", "compiled")):
        needs(backend)
        for dtype in agreement.LIMITS:
            line = agreement.gradients("square", "pathwise", dtype, backend, form, "cpu")
            assert line["agrees"], line


def test_a_form_that_fails_is_a_line_with_its_reason() -> None:
    needs("torch")
    line = agreement.gradients("square", "pathwise", "float64", "torch", "graph", "cpu")
    assert line["reason"] == "a CUDA graph needs a CUDA device"
    assert "agrees" not in line
    line = agreement.statistics("square", "pathwise", "float64", "torch", "cuda")
    assert "PyTorch finds no CUDA device here" in line["reason"]
    line = crossover.point(SQUARE, "float32", "torch", "graph", "cpu", 64)
    assert (line["reason"], line["replicates"]) == ("a CUDA graph needs a CUDA device", 64)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (("unbiased", 1.05, 1.0, 1.1), True),
        (("unbiased", 1.14, 1.083, 1.197), True),  # 3.6 standard errors of log 1.14
        (("unbiased", 1.17, 1.1115, 1.2285), False),  # 4.3
        (("biased", 1.0, 0.95, 1.05), False),
        (("unbiased", 1.0, 0.95, None), False),
        (("unbiased", 0.0, 0.0, 0.0), False),
    ],
)
def test_verdicts_are_equal_and_variances_within_their_error(other: tuple[Any, ...], same: bool) -> None:
    names = ("verdict", "variance", "variance_low", "variance_high")
    a, b = (dict(zip(names, values, strict=True)) for values in (("unbiased", 1.0, 0.95, 1.05), other))
    assert agreement.agree(a, b) is agreement.agree(b, a) is same


def test_the_sweep_ends_at_long_calls_and_when_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def point(workload: Any, dtype: str, backend: str, form: str, device: str, replicates: int) -> dict[str, Any]:
        return {"replicates": replicates, "form": form, "seconds": replicates / 100.0}

    monkeypatch.setattr(crossover, "point", point)
    record = Record(tmp_path / "a.json", seconds=1e9)
    crossover.run(record, "cpu", ("numpy",), sizes={"float32": (16, 64, 256)}, workloads=(SQUARE,))
    assert [line["replicates"] for line in record.lines] == [16, 64]
    assert len(record.left_out) == 1
    assert "256 replicates: a smaller call took over 0.5 s" in record.left_out[0]
    record.seconds = 0.0
    crossover.run(record, "cuda", ("torch",), sizes={"float32": (16,)}, workloads=(SQUARE,))
    assert len(record.lines) == 2
    assert len(record.left_out) == 1 + len(crossover.ON_DEVICE["torch"])


def test_a_point_of_the_sweep_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossover, "ROUNDS", 2)
    line = crossover.point(SQUARE, "float32", "numpy", "eager", "cpu", 64)
    assert 0.0 < line["seconds"] < 1.0
    assert line["device_seconds"] is line["peak_memory"] is None


@pytest.mark.parametrize(
    ("cpu", "card", "first"),
    [
        ({64: 1.0, 256: 4.0, 1024: 16.0}, {64: 2.0, 256: 2.0, 1024: 2.0}, 256),
        ({64: 1.0, 256: 4.0}, {64: 0.5, 256: 2.0}, 64),
        ({64: 1.0, 256: 4.0}, {64: 2.0, 256: 4.0}, None),
        ({64: 3.0, 256: 1.0, 1024: 9.0}, {64: 2.0, 256: 2.0, 1024: 2.0}, 1024),
        ({64: 1.0, 256: 4.0}, {256: 2.0, 1024: 2.0}, 256),
        ({64: 1.0}, {256: 2.0}, None),
    ],
)
def test_the_card_overtakes_where_it_is_ahead(cpu: dict[int, float], card: dict[int, float], first: int | None) -> None:
    assert crossover.overtakes(cpu, card) == first


def test_the_best_of_several_forms_counts() -> None:
    lines = [{"replicates": 64, "seconds": 2.0}, {"replicates": 64, "seconds": 1.0}, {"replicates": 256, "reason": "x"}]
    assert crossover.best(lines) == {64: 1.0}


def test_ratios_are_of_one_block_to_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of 4 blocks that takes 8 s takes 2 s a block, twice the noise."""
    monkeypatch.setattr(noise_floor, "calibrate", lambda call: (1, 0.0))
    monkeypatch.setattr(
        noise_floor,
        "interleave",
        lambda calls, rounds: {key: [{"noise": 1.0, "statistics": 8.0}[key[0]]] * rounds for key in calls},
    )
    backend: Any = types.SimpleNamespace(device_seconds=lambda launch, repeats: 1.0)
    runs = {name: noise_floor._Run(lambda: 0, lambda: 0, n) for name, n in (("noise", 1), ("statistics", 4))}
    (line,) = noise_floor._timed(backend, runs, 3)
    assert line["ratio"] == line["device_ratio"] == [2.0, 2.0, 2.0]
    assert (line["seconds"], line["noise_seconds"], line["met"]) == (2.0, 1.0, False)


def test_the_kernel_is_timed_against_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("numpy")
    (statistics, eager) = noise_floor.ratios(10, "pathwise", "float32", "numpy", "cpu", 2**12, rounds=2)
    assert (statistics["form"], eager["form"]) == ("statistics", "eager")
    assert statistics["replicates"] == 256
    assert statistics["ratio"][0] > 0.0
    assert statistics["device_ratio"] is None
    (line,) = noise_floor.ratios(10, "pathwise", "float32", "torch", "cuda", 2**12)
    assert "no CUDA device" in line["reason"]


# The whole run


def state(clock: int, *reasons: str) -> dict[str, Any]:
    return {"sm_clock": clock, "memory_clock": 3201, "temperature": 41, "power": 120.0, "reasons": list(reasons)}


def fake_lines(name: str) -> list[dict[str, Any]]:
    """Return what a part measures on a card that takes 20 µs and 1 ns a replicate; the CPU takes 100 ns a replicate."""
    what = {"problem": "square", "estimator": "pathwise", "dtype": "float32"}
    kind, _, backend = name.partition("-")
    if kind == "facts":
        return [
            {"backend": "torch", "version": "2.13", "machine": "NVIDIA H200"},
            {"backend": "jax", "reason": "no; x"},
        ]
    if kind == "agreement":
        found = {"verdict": "unbiased", "variance": 1.0, "variance_low": 0.9, "variance_high": 1.1}
        same = {"kind": "gradients", **what, "backend": backend, "limit": 1e-5}
        return [
            {**same, "form": "graph", "difference": 2e-7, "agrees": True},
            {"kind": "statistics", **what, "backend": backend, "cpu": found, "device": found, "agrees": True},
            {**same, "form": "eager", "reason": "no graph"},
        ]
    if kind == "crossover":
        device, form, base, each = ("cpu", "eager", 0.0, 1e-7) if backend == "cpu" else ("cuda", "graph", 2e-5, 1e-9)
        place = {"backend": "numpy" if device == "cpu" else backend, "form": form, "device": device}
        rest = {"device_seconds": None, "compile_seconds": 0.5, "peak_memory": None if device == "cpu" else 2**21}
        return [
            {**what, **place, "replicates": n, "seconds": base + each * n, **rest} for n in crossover.SIZES["float32"]
        ]
    ratios = {"seconds": 1e-3, "noise_seconds": 9e-4, "ratio": [1.11, 1.1, 1.12], "device_ratio": [1.08, 1.07, 1.09]}
    return [
        {**what, "backend": backend, "form": "graph", **ratios, "met": True},
        {**what, "backend": backend, "form": "fused", "reason": "OutOfMemoryError"},
    ]


def fake_run(name: str, output: Path, seconds: float) -> str | None:
    record = Record(output / f"{name}.json")
    states = {"before": state(345, "idle"), "after": state(1980, *(["power cap"] if name == "floor-torch" else []))}
    record.say(part=name, code_version="abc", started="2026-11-30T10:00:00", device_state=states)
    for line in fake_lines(name):
        record.add(**line)
    if name == "crossover-torch":
        assert not Record(output / "x", 0.0).may("x")
        record.left_out.append("float64")
        record.say()
    return "it was ended after 90 s" if name == "agreement-torch" else None


def test_a_run_writes_a_page_of_all_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.conduct(tmp_path, fake_run) == 1  # a part did not end
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == str(tmp_path / "report.md")
    assert "agreement-torch: it was ended after 90 s" in out
    assert "floor-jax" not in out
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for line in (
        "- torch 2.13: NVIDIA H200",
        "- jax : no; x",
        "| facts | before | 345 | 3,201 | 41 | 120 | idle |",
        "| floor-torch | after | 1,980 | 3,201 | 41 | 120 | power cap |",
        "**floor-torch: the card's clocks were lowered: power cap.**",
        "2 of 3 comparisons agree.",
        "| square | pathwise | float32 | torch graph | gradients differ by 2.0e-07, at most 1e-05 | yes |",
        "| square | pathwise | float32 | torch eager | not compared: no graph | – |",
        "| square | pathwise | float32 | 256 | 1.26× | 98.1× at 1,048,576 |",
        "| square | pathwise | float32 | card, torch graph | 64 | 20.1 µs | – | 500 ms | 2.0 MiB |",
        "| square | pathwise | float32 | torch graph | 1.11× [1.10, 1.12] | 1.08× [1.07, 1.09] | 900 µs | met |",
        "| square | pathwise | float32 | torch fused | not timed: OutOfMemoryError | – | – | – |",
        "- agreement-torch ended early: it was ended after 90 s",
        "- crossover-torch: float64",
    ):
        assert line in text, line
    drawn = (tmp_path / "crossover.svg").read_text(encoding="utf-8")
    assert "card, torch graph" in drawn
    assert "CPU, numpy eager" in drawn
    assert json.loads((tmp_path / "agreement-torch.json").read_text())["failure"] == "it was ended after 90 s"


def test_without_a_card_an_earlier_report_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def nothing(name: str, output: Path, seconds: float) -> str | None:
        assert name == "facts"
        Record(output / "facts.json").add(backend="torch", reason="PyTorch finds no CUDA device here; use --device cpu")
        return None

    (tmp_path / "facts.json").write_text("{}")
    assert program.conduct(tmp_path, nothing) == 2
    assert capsys.readouterr().err == "gpu: nothing was measured: PyTorch finds no CUDA device here\n"
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]
    assert program.conduct(tmp_path / "new", lambda *_: "exit status 1: no driver") == 2
    assert capsys.readouterr().err == "gpu: nothing was measured: exit status 1: no driver\n"
    assert not (tmp_path / "new").exists()


def test_a_disagreement_is_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(name: str, output: Path, seconds: float) -> str | None:
        record = Record(output / f"{name}.json")
        if name == "facts":
            for backend in program.BACKENDS:
                record.add(backend=backend, version="1", machine="card")
        elif name == "agreement-jax":
            record.add(**{**fake_lines(name)[0], "difference": 1.0, "agrees": False})
        else:
            record.say(part=name)
        return None

    assert program.conduct(tmp_path, run) == 1
    assert "1 comparisons with the CPU disagree" in capsys.readouterr().err
    assert "gradients differ by 1.0e+00, at most 1e-05 | **no** |" in (tmp_path / "report.md").read_text(
        encoding="utf-8"
    )


def test_the_parts_fit_into_eight_minutes() -> None:
    assert sum(part.seconds for part in program.PARTS.values()) + program.PAGE <= program.LIMIT == 480.0


def test_a_part_ends_at_its_deadline_with_all_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import os, time; os.fork(); time.sleep(60)"
    started: list[Any] = []
    real = subprocess.Popen

    def popen(command: list[str], **how: Any) -> Any:
        started.append(real([sys.executable, "-c", slow], **how))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert program.in_a_process("facts", tmp_path, 0.2) == "it was ended after 0 s"
    assert started[0].returncode is not None


@pytest.mark.slow
def test_on_this_machine_it_measures_or_says_in_one_line_why_not(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a card; make gpu measures on it")
    command = [sys.executable, "-m", "gradmeter.bench.performance.gpu", "--output", str(tmp_path / "gpu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("gpu: nothing was measured: PyTorch finds no CUDA device here")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "gpu").exists()


def test_the_figure_needs_a_time() -> None:
    assert page.figure([]) is None
    assert page.figure([{"problem": "p", "estimator": "e", "dtype": "float32", "reason": "x"}]) is None
