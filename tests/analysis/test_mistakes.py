import numpy as np
import pytest

from striate.analysis.mistakes import confusion_pairs, worst


def test_pairs_are_the_largest_cells_off_the_diagonal():
    counts = [[9, 2, 0], [5, 9, 2], [0, 1, 9]]
    assert confusion_pairs(counts) == [(1, 0, 5), (0, 1, 2), (1, 2, 2), (2, 1, 1)]
    assert confusion_pairs(counts, 1) == [(1, 0, 5)]


def test_a_perfect_matrix_has_no_pairs_and_is_not_changed():
    counts = np.diag([3, 4])
    assert confusion_pairs(counts) == []
    assert counts.tolist() == [[3, 0], [0, 4]]


def test_worst_are_the_wrong_answers_by_loss():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50)
    loss = -np.log(p[np.arange(50), y])
    wrong = [i for i in range(50) if p[i].argmax() != y[i]]
    slow = sorted(wrong, key=lambda i: -loss[i])
    assert worst(p, y, 9).tolist() == slow[:9]
    assert worst(p, y, 500).tolist() == slow


def test_right_answers_are_never_among_the_worst():
    assert worst(np.eye(3), [0, 1, 2]).tolist() == []
    assert worst(np.empty((0, 3)), np.empty(0, int)).tolist() == []


def test_equal_losses_keep_the_order_of_the_samples():
    assert worst(np.tile([1.0, 0.0], (4, 1)), [1, 0, 1, 1]).tolist() == [0, 2, 3]


def test_a_wrong_call_is_named():
    with pytest.raises(ValueError, match=r"confusion must have shape \(K, K\); got \(2, 3\)"):
        confusion_pairs(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"got shapes \(2, 2\) and \(3,\)"):
        worst(np.eye(2), [0, 1, 1])
