"""The one error of the benchmark."""


class BenchError(Exception):
    """A step failed. The text names the step, the cause and, where there is one, a next step."""
