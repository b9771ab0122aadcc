"""Output of a test session: failures as they happen, and a summary at the end even if it is interrupted.

On several cores pytest prints failures only at the end, which a session that is killed never reaches.
"""

from __future__ import annotations

import signal

import pytest


class Reporting:
    """Prints failures at once, and the tests that were running when the session was interrupted."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal
        self._running: list[str] = []

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test runs."""
        self._running.append(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test has ended."""
        self._running.remove(nodeid)

    @pytest.hookimpl(trylast=True)  # after the letter of the test
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failure; its captured output follows at the end of the session."""
        if report.failed:
            self._terminal.ensure_newline()
            self._terminal.write_sep("_", f"{report.nodeid} ({report.when})", red=True)
            self._terminal.write_line(report.longreprtext)

    def pytest_keyboard_interrupt(self) -> None:
        """Say what is waited for; a second Ctrl-C would prevent the summary and leave servers running."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._terminal.ensure_newline()
        self._terminal.write_line("interrupted; ending tests and their servers, the summary follows", yellow=True)
        for nodeid in self._running:
            self._terminal.write_line(f"was running: {nodeid}")


@pytest.hookimpl(trylast=True)  # after pytest's own, which makes the terminal reporter
def pytest_configure(config: pytest.Config) -> None:
    """Report in the process that prints: workers have no terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(Reporting(terminal), "mnist-bp-reporting")
