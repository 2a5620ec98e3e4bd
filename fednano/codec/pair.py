"""The codecs of a run: one for updates, one for the weights on their way to clients."""

from dataclasses import dataclass, field

from fednano.codec.base import Codec
from fednano.codec.fp32 import Fp32
from fednano.core.randomness import named_seed


@dataclass(frozen=True, kw_only=True)
class CodecPair:
    """Args:
    update: encodes updates (`codec`).
    download: encodes the weights that the server sends (`codec@download`).
    seed: of the run.
    """

    update: Codec = field(default_factory=Fp32)
    download: Codec = field(default_factory=Fp32)
    seed: int = 0

    def update_seed(self, client: str, round_: int) -> int:
        """The seed of a client's update."""
        return named_seed(self.seed, "codec", client, round_)

    def download_seed(self, version: int) -> int:
        """The seed of the global weights of a version."""
        return named_seed(self.seed, "codec", "download", version)
