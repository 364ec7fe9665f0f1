"""`UserError`: what a user can mend, told in one line. Every other error keeps its traceback."""


class UserError(ValueError):
    """The message names the thing and what to do about it."""


def first_line(error: BaseException) -> str:
    """The first line of its message, or its kind where it has none."""
    first = (str(error).strip() or type(error).__name__).split("\n")[0]
    return first.partition(". In PyTorch 2.6")[0]  # torch goes on to advise what may run code


def one_line(error: BaseException) -> str:
    """The whole message of an error that spreads it over lines, as YAML's do."""
    return " ".join(str(error).split())


def told(error: BaseException) -> str:
    """The message of an error in one piece, also where a process of a DataLoader raised it."""
    text = str(error)
    if text.startswith("Caught ") and "DataLoader worker" in text:  # torch sends the traceback too
        return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip()
    return text
