import errno

import pytest

from pipeline.errors import SynthGainError
from stages.command import report_errors


def fails_with(error):
    def app():
        raise error

    return app


@pytest.mark.parametrize(
    "error, status, lines",
    [
        (SynthGainError("a: b"), 1, ["error: a: b"]),
        (SynthGainError("a: b\nc: d"), 1, ["error: a: b", "error: c: d"]),
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), 1, ["error: [Errno 28]"]),
        (MemoryError(), 1, ["error: out of memory"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_what_a_user_can_mend_is_told_in_a_line_each(capsys, error, status, lines):
    with pytest.raises(SystemExit) as caught:
        report_errors(fails_with(error))
    assert caught.value.code == status
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == len(lines)
    assert all(found.startswith(wanted) for found, wanted in zip(printed, lines, strict=True))


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        report_errors(fails_with(ZeroDivisionError()))
