"""Machines are had and let go without one site waiting for another, and failures say why and no secret."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag

import pytest

from fednano.core.events import Event, Provisioned, ProvisionFailed, ProvisionRequested
from fednano.runtime.deployment.nodes.provision import (
    Command,
    Patience,
    ProvisionError,
    Provisioning,
    Subprocess,
    redacted,
    run,
)

QUICK = Patience(timeout_s=20.0, attempts=3, backoff_s=0.001)
SOON_S = 20.0  # more than anything here takes


class Recorder:
    """An actor whose attempts are recorded, and fail or wait as told."""

    def __init__(self, failures: int = 0, hold: Flag | None = None, held: str = "") -> None:
        self.calls: list[tuple[str, str]] = []
        self.done: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._failures, self._hold, self._held = failures, hold, held

    def start(self, client: str) -> None:
        self._do("start", client)

    def stop(self, client: str) -> None:
        self._do("stop", client)

    def _do(self, action: str, client: str) -> None:
        self.calls.append((action, client))
        if self._hold and client == self._held:
            assert self._hold.wait(SOON_S)
        if self._failures:
            self._failures -= 1
            raise ProvisionError("no capacity")
        self.done.put((action, client))


def provisioning(
    actor: Recorder, patience: Patience = QUICK, tell: Callable[[Event], None] | None = None
) -> tuple[Provisioning, list[Event]]:
    told: list[Event] = []
    return Provisioning(actor, patience, ("a", "b"), tell or told.append, lambda: 7.0), told


def test_who_is_wanted_is_had_once_and_let_go_once() -> None:
    actor = Recorder()
    sites, told = provisioning(actor)
    sites.follow({"a": True, "b": False})
    assert not sites.has("a")
    sites.settle()
    assert sites.has("a") and not sites.has("b")
    sites.follow({"a": True, "b": False})
    sites.follow({"a": False, "b": False})
    assert not sites.has("a")
    sites.close()
    assert actor.calls == [("start", "a"), ("stop", "a")]
    assert [(type(e), e.t) for e in told] == [(ProvisionRequested, 7.0), (Provisioned, 7.0)] * 2


def test_a_site_that_hangs_holds_up_no_other() -> None:
    hold, came = Flag(), Flag()

    def tell(event: Event) -> None:
        if isinstance(event, Provisioned) and event.client == "b":
            came.set()

    actor = Recorder(hold=hold, held="a")
    sites, _ = provisioning(actor, tell=tell)
    sites.follow({"a": True, "b": True})
    assert actor.done.get(timeout=SOON_S) == ("start", "b")
    assert not hold.is_set()
    hold.set()
    sites.close()
    assert came.is_set()


def test_a_wish_that_changes_during_an_action_is_followed_after_it() -> None:
    hold = Flag()
    actor = Recorder(hold=hold, held="a")
    sites, _ = provisioning(actor)
    sites.follow({"a": True})
    sites.follow({"a": False})
    hold.set()
    sites.settle()
    assert actor.calls == [("start", "a")]
    sites.follow({"a": False})
    sites.settle()
    assert actor.calls == [("start", "a"), ("stop", "a")]
    sites.close()
    assert len(actor.calls) == 2


def test_attempts_are_repeated_and_counted() -> None:
    sites, told = provisioning(Recorder(failures=2))
    sites.follow({"a": True})
    sites.settle()
    assert isinstance(told[-1], Provisioned) and told[-1].attempts == 3
    sites.close()


def test_what_fails_for_good_is_told_once_and_tried_again_only_for_a_new_wish() -> None:
    actor = Recorder(failures=3)
    sites, told = provisioning(actor)
    sites.follow({"a": True})
    sites.settle()
    assert isinstance(told[-1], ProvisionFailed) and (told[-1].attempts, told[-1].cause) == (3, "no capacity")
    sites.follow({"a": True})
    sites.settle()
    assert len(actor.calls) == 3 and len(told) == 2
    sites.follow({"a": False})  # nobody knows whether it came
    sites.close()
    assert actor.calls[3:] == [("stop", "a")]


def test_back_off_doubles_up_to_a_minute() -> None:
    waits = Patience(backoff_s=10.0)
    assert [waits.wait_s(failed) for failed in (1, 2, 3, 4, 50)] == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_at_the_end_all_are_let_go_even_those_that_may_have_come() -> None:
    actor = Recorder(failures=3)
    sites, _ = provisioning(actor)
    sites.follow({"a": True})
    sites.settle()
    sites.follow({"b": True})
    sites.close()
    assert sorted(actor.calls[-2:]) == [("stop", "a"), ("stop", "b")]


def test_the_end_does_not_wait_for_the_back_off_of_a_start() -> None:
    actor = Recorder(failures=1)
    sites, _ = provisioning(actor, replace(QUICK, backoff_s=1e4))
    sites.follow({"a": True})
    sites.close()
    assert actor.calls == [("start", "a"), ("stop", "a")]


def test_what_kills_a_thread_is_raised() -> None:
    class Broken(Recorder):
        def start(self, client: str) -> None:
            raise KeyError(client)

    sites, _ = provisioning(Broken())
    sites.follow({"a": True})
    with pytest.raises(KeyError):
        sites.close()


def test_a_command_is_made_from_its_template_without_a_shell(tmp_path: Path) -> None:
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
    words = [sys.executable, "-c", script, str(tmp_path / "{client}"), "deployment/{client}", "--replicas={replicas}"]
    command = Command(start=[*words, "{index}; exit 3"], stop=words)
    actor = command.actor(["x", "site_b"], nodes=None)  # type: ignore[arg-type]
    actor.start("site_b")
    assert (tmp_path / "site_b").read_text() == "deployment/site_b --replicas=1 1; exit 3"
    actor.stop("site_b")
    assert (tmp_path / "site_b").read_text() == "deployment/site_b --replicas=0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "must name a program"),
        (["kubectl", "{site}"], r"unknown placeholder \{site\} in \{site\}; use \{client\}, \{index\}, \{replicas\}"),
        (["kubectl", "{client.__class__}"], "unknown placeholder"),
        (["kubectl", "{client!r}"], "unknown placeholder"),
        (["kubectl", "{client"], "write {{ and }} for literal braces"),
        (["kubectl", "{}"], "unknown placeholder"),
    ],
)
def test_templates_are_checked_when_composed(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Command(start=["true"], stop=words)


@pytest.mark.parametrize("key", ["timeout_s", "backoff_s", "attempts", "at_once"])
def test_patience_is_checked(key: str) -> None:
    with pytest.raises(ValueError, match=rf"runtime.provisioner.{key} must be .*, got 0"):
        Subprocess(**{key: 0})


def failure(run_it: Callable[[], None]) -> str:
    with pytest.raises(ProvisionError) as caught:
        run_it()
    return str(caught.value)


def test_a_failure_names_command_exit_code_and_last_line_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_TOKEN", "hunter2-hunter2")
    script = "import os, sys; print('first', file=sys.stderr); sys.exit('denied: ' + os.environ['CLUSTER_TOKEN'])"
    text = failure(lambda: run([sys.executable, "-c", script], SOON_S))
    assert text.startswith(f"{sys.executable} -c")
    assert text.endswith("ended with exit code 1: denied: ***")


def test_a_command_that_hangs_is_killed_with_what_it_started() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(100)'])"
    assert failure(lambda: run([sys.executable, "-c", script], 0.2)).endswith("did not end within 0.2 s")


def test_a_program_that_is_not_there_says_so() -> None:
    assert "no-such-program x cannot be started (No such file" in failure(lambda: run(["no-such-program", "x"], 1.0))


def test_only_what_is_named_like_a_secret_is_left_out() -> None:
    assert redacted("abcdef ghijkl short", {"MY_PASSWORD": "abcdef", "HOME": "ghijkl", "X_KEY": "short"}) == (
        "*** ghijkl short"
    )
