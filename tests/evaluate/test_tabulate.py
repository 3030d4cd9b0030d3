"""Which samples are as near to a training image as a copy."""

from components.evaluate import tabulate
from components.evaluate.params import EvaluateParams

PARAMS = EvaluateParams.model_construct(memorised_rmse=0.05, memorised_ratio=0.5)


def test_the_limit_is_that_of_the_class_or_of_all_where_it_has_few_held_out_images():
    real = [0.4] * 20 + [0.2] * 19 + [0.04]
    near = {"label": ["a", "b", "new", *["a"] * 20, *["b"] * 20], "train_rmse": [0.19, 0.11, 0.06, *real]}
    found = tabulate.judged(PARAMS, near, 3)
    assert found["copy_limit"][:3] == [0.2, 0.1, 0.1], "all but one of twenty keep 0.4, 0.2, and 0.2"
    assert found["copy"][:3] == [True, False, True]
    assert sum(found["copy"][3:]) == 1, "the held-out image below memorised_rmse"
    near["label"] = ["a", "b", "new", *["a"] * 19, *["b"] * 21]
    assert tabulate.judged(PARAMS, near, 3)["copy_limit"][0] == 0.1, "19 are too few"


def test_the_absolute_limit_stays_where_real_images_lie_near_each_other():
    near = {"label": [None] * 41, "train_rmse": [0.049, *[0.02] * 40]}
    assert tabulate.judged(PARAMS, near, 1)["copy_limit"][0] == 0.05
