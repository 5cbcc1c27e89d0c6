"""Writes data/torch_sparse_adam.npz, what torch.optim.SparseAdam makes of a table; for a Python that has torch.

Numbers of rows repeat, and rows that come early are left alone later.
"""

from pathlib import Path

import numpy as np

RATE, STEPS, ROWS, WIDTH, BATCH = 0.05, 6, 9, 5, (3, 4)


def main() -> None:
    import torch  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(0)
    start = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    indices = [rng.integers(0, 3 + step, BATCH).astype(np.int32) for step in range(STEPS)]
    weights = [rng.standard_normal((*BATCH, WIDTH)).astype(np.float32) for _ in range(STEPS)]
    table = torch.nn.Embedding(ROWS, WIDTH, sparse=True)
    table.weight.data = torch.from_numpy(start.copy())
    optimizer = torch.optim.SparseAdam(list(table.parameters()), lr=RATE, betas=(0.9, 0.999), eps=1e-7)
    path = []
    for i, w in zip(indices, weights, strict=True):
        optimizer.zero_grad()
        (table(torch.from_numpy(i).long()) * torch.from_numpy(w)).sum().backward()
        optimizer.step()
        path.append(table.weight.detach().numpy().copy())
    state = optimizer.state[table.weight]
    np.savez_compressed(
        Path(__file__).parent / "data" / "torch_sparse_adam.npz",
        rate=RATE,
        start=start,
        indices=np.stack(indices),
        weights=np.stack(weights),
        path=np.stack(path),
        m=state["exp_avg"].numpy(),
        v=state["exp_avg_sq"].numpy(),
    )


if __name__ == "__main__":
    main()
