import pytest

from striate import errors


@pytest.mark.parametrize("name", ["DataError", "RecipeError", "BundleError", "ExportError"])
def test_every_error_is_a_mistake_of_the_user(name):
    assert issubclass(getattr(errors, name), errors.UserError)


def test_a_mistake_of_the_user_is_no_value_error():
    assert not issubclass(errors.UserError, ValueError)


def test_a_near_name_is_suggested():
    assert errors.suggest("resnet19", ["lenet5", "resnet18"]) == "did you mean 'resnet18'?"


def test_without_a_near_name_all_are_listed():
    assert errors.suggest("x", ["lenet5", "resnet18"]) == "known: lenet5, resnet18"
