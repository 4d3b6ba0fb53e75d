from io import BytesIO

from PIL import Image

from striate.lessons import teach


def test_digits_get_planes_of_their_own():
    found = teach("organisation")
    planes = found.numbers["different planes"]
    assert planes[0] <= 3
    assert planes[-1] >= 4
    assert Image.open(BytesIO(found.picture)).width > 600
    assert found.suffix == ".png"
