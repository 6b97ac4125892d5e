"""Linear transforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowbench.transforms.transform import Pair, Transform


class LULinear(Transform):
    """u = L·U·x + b, with L unit lower and U upper triangular; log_det = Σ log U_ii (Kingma and Dhariwal 2018, §3.2).

    The diagonal of U is positive. It begins as the identity, and a permutation before it makes it any matrix but for
    signs. Both directions cost O(D²) a row.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        places = torch.tril_indices(dim, dim, -1)
        self.register_buffer("rows", places[0], persistent=False)
        self.register_buffer("columns", places[1], persistent=False)
        self.lower = nn.Parameter(torch.zeros(len(places[0])))
        self.upper = nn.Parameter(torch.zeros(len(places[0])))
        self.log_diagonal = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Pair:
        """x (N, D) to (u, log_det)."""
        lower, upper = self._factors()
        return x @ (lower @ upper).t() + self.bias, self.log_diagonal.sum().expand(len(x))

    def inverse(self, u: Tensor) -> Pair:
        """u (N, D) to (x, log_det)."""
        lower, upper = self._factors()
        y = torch.linalg.solve_triangular(lower, (u - self.bias).t(), upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, y, upper=True)
        return x.t(), -self.log_diagonal.sum().expand(len(u))

    def _factors(self) -> tuple[Tensor, Tensor]:
        places = self.rows, self.columns
        lower = torch.eye(len(self.bias), device=self.bias.device, dtype=self.bias.dtype).index_put(places, self.lower)
        upper = torch.diag(self.log_diagonal.exp()).index_put(places[::-1], self.upper)
        return lower, upper
