"""One scan's slices, each made ready and turned into a picture."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nirvana_mri.errors import ScanError
from nirvana_mri.recon.peers import Peer
from nirvana_mri.recon.problem import SliceProblem, Whitening, prepare_slice, zero_filled
from nirvana_mri.recon.stream import slices_of
from nirvana_mri.recon.withheld import Solver
from nirvana_mri.scan import Scan


@dataclass(frozen=True, eq=False)
class Work:
    """How each slice of a scan becomes a picture. ``solved`` keeps slices that were needed before, until their turn."""

    scan: Scan
    mask: NDArray[np.bool_]
    solver: Solver | None
    peer: Peer | None
    combine: str
    keep_phase: bool
    white: Whitening | None
    device: str
    solved: dict[int, tuple[SliceProblem, Tensor]] = field(default_factory=dict)

    def pictures(self, numbers: Sequence[int], empty: NDArray[Any]) -> Generator[NDArray[Any]]:
        with closing(slices_of(self.scan, numbers)) as coming:
            for number, kspace in zip(numbers, coming, strict=True):
                yield empty.copy() if self.is_empty(kspace) else self.picture(number, kspace)

    def is_empty(self, kspace: NDArray[Any]) -> bool:
        """A picture may have slices with nothing in them; a scanner at least measures noise."""
        return not self.scan.raw and not kspace.any()

    @torch.inference_mode()
    def answers(self, numbers: Sequence[int]) -> Iterator[tuple[int, SliceProblem, Tensor]]:
        """(number, problem, complex image) of those of these slices that hold something, one at a time; what a method
        solved is kept for the slice's picture.
        """
        for number in numbers:
            kspace = self.scan.kspace[number]
            if not self.is_empty(kspace):
                with named(number):
                    problem, image = self.solve(
                        prepare_slice(kspace, self.mask, self.scan.crop, self.device, self.white)
                    )
                if self.solver is not None:
                    self.solved[number] = problem, image
                yield number, problem, image

    @torch.inference_mode()
    def picture(self, number: int, kspace: NDArray[Any]) -> NDArray[Any]:
        with named(number):
            if self.peer is not None:
                return self.peer.restored(kspace, self.mask, self.scan.crop, self.device).cpu().numpy()
            if self.solver is None and self.combine == "rss":
                return zero_filled(kspace, self.mask, self.scan.crop, self.device).cpu().numpy()
            if number in self.solved:
                problem, image = self.solved.pop(number)
            else:
                problem, image = self.solve(prepare_slice(kspace, self.mask, self.scan.crop, self.device, self.white))
        finished = problem.finish_complex(image) if self.keep_phase else problem.finish(image, self.combine)
        return np.ascontiguousarray(finished.cpu().numpy())

    def solve(self, problem: SliceProblem) -> tuple[SliceProblem, Tensor]:
        """The problem and its complex image, by the method or the plain combination."""
        return problem, problem.operator.adjoint(problem.data) if self.solver is None else self.solver(problem)


@contextmanager
def named(number: int) -> Iterator[None]:
    """What is wrong with a slice says which."""
    try:
        yield
    except ScanError as found:
        raise ScanError(f"slice {number}: {found}") from found
