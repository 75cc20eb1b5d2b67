"""The programs that are checkpointed: ordinary services, nothing in them knows of it."""

from . import resp


class Redis:
    """redis-server as the cell has it."""

    name = "redis-server"
    saves = True
    argv = ["redis-server", "--port", str(resp.PORT), "--bind", resp.ADDRESS, "--save", "",
            "--appendonly", "no", "--dir", "/run/bench/data", "--loglevel", "warning",
            "--logfile", ""]

    def inside_us(self, _cell):
        """Nothing inside redis tells what it felt."""
        return None


class SampleKv:
    """The sample service of this tree: several threads, one of them a heartbeat."""

    name = "rekindle-sample-kv"
    saves = False
    argv = ["/run/bench/rekindle-sample-kv", "--port", str(resp.PORT)]

    def inside_us(self, cell):
        """Longest time since the last ask that its heartbeat thread could not run."""
        def ask():
            with resp.Client(60) as client:
                return client.call("HEARTBEAT")

        return cell.in_network(ask)
