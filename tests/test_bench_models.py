"""What `pixserve bench models` computes from what it measured."""

import numpy as np

from loadtest.bench_models import Load, best
from loadtest.workloads import Workload, picture
from tests.media import image_bytes


def test_batches_hold_rows_of_one_shape_and_every_row_once():
    rng = np.random.default_rng(0)
    rows = [{"IDS": np.full((1, int(rng.choice([8, 16]))), i)} for i in range(50)]
    batches = Workload(rows, [""] * 50).batches(8)
    assert sorted(int(i) for batch in batches for i in batch["IDS"][:, 0]) == list(range(50))
    assert max(len(batch["IDS"]) for batch in batches) == 8


def test_the_best_load_is_the_one_with_the_highest_rate():
    loads = [Load(1, 8, 10.0), Load(4, 8, 30.0), Load(8, 8, 20.0)]
    assert best(loads) == loads[1]


def test_the_pictures_are_jpeg_files_that_differ():
    assert picture(1)[:3] == image_bytes("jpeg")[:3]
    assert picture(1) == picture(1)
    assert picture(1) != picture(2)
