"""A network namespace that stands for another machine, and a link to it that loses packets."""

import subprocess

HERE, THERE = "198.18.0.1", "198.18.0.2"  # of the range that is kept for testing networks


class BadNetwork:
    """A namespace, and a pair of interfaces that joins it to this one; both are gone with `close`.

    Args:
        name: of the namespace, at most 14 characters.
        loss: share of the packets that are lost, as `lose` has it.

    Raises:
        OSError: iproute2 is not installed, or this user may not, or the kernel cannot.
    """

    def __init__(self, name: str, loss: float) -> None:
        self.name = name
        # Where to run a command of iproute2, and the interface there.
        self._ends = {f"{name}a": (), f"{name}b": ("-n", name)}
        near, far = self._ends
        _run("ip", "netns", "add", name)
        try:
            _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            for (end, where), address in zip(self._ends.items(), (HERE, THERE), strict=True):
                _run("ip", *where, "address", "add", f"{address}/30", "dev", end)
                # Single packets, as on a wire, in place of many joined into one.
                _run("ip", *where, "link", "set", end, "gso_max_segs", "1", "up")
                _run("tc", *where, "qdisc", "add", "dev", end, "clsact")
            self.lose(loss)
        except OSError:
            self.close()
            raise

    def lose(self, share: float) -> None:
        """From now on lose this share of all packets, above 0, each way; with 1 the link is cut.

        In place of netem, which is not in every kernel, a program of the packet filter's drops what comes in.
        """
        # Load a random number; above the bound jump over "drop it" (TC_ACT_SHOT) to "go on" (TC_ACT_OK).
        program = f"4,32 0 0 {0xFFFFF000 + 56},37 1 0 {round(share * 2**32) - 1},6 0 0 2,6 0 0 0"
        for end, where in self._ends.items():
            at = ("dev", end, "ingress", "protocol", "all", "pref", "1", "handle", "1")
            _run("tc", *where, "filter", "replace", *at, "bpf", "da", "bytecode", program)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in the namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def close(self) -> None:
        _run("ip", "netns", "delete", self.name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
