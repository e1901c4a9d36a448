"""Pictures in, labels out, by scikit-learn's conventions."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

import maml_jax as mj
from maml_jax.classifier import FewShotClassifier
from maml_jax.cli import main
from maml_jax.errors import InputError

pytestmark = pytest.mark.xdist_group("classifier")  # one process trains the run
SHAPES = ("circle", "square", "cross", "bar", "dot", "corner", "wave")


def picture(kind: str, seed: int, side: int = 40) -> Image.Image:
    """Dark strokes on white, a little moved."""
    rng = np.random.default_rng([seed, SHAPES.index(kind)])
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    dx, dy = rng.integers(-3, 4, 2)
    a, b = 10 * side // 40, 30 * side // 40
    box = (a + dx, a + dy, b + dx, b + dy)
    if kind == "circle":
        pen.ellipse(box, outline=0, width=3)
    elif kind == "square":
        pen.rectangle(box, outline=0, width=3)
    elif kind == "cross":
        pen.line((box[0], box[1], box[2], box[3]), fill=0, width=3)
        pen.line((box[0], box[3], box[2], box[1]), fill=0, width=3)
    elif kind == "bar":
        pen.line((box[0], box[1], box[2], box[1]), fill=0, width=4)
    elif kind == "dot":
        pen.ellipse((box[2] - 6, box[3] - 6, box[2], box[3]), fill=0)
    elif kind == "corner":
        pen.line((box[0], box[1], box[0], box[3], box[2], box[3]), fill=0, width=3)
    else:
        pen.arc(box, 0, 180, fill=0, width=3)
    return image


def pictures(kinds, each=2, start=0, side=40):
    images = [picture(kind, start + n, side) for kind in kinds for n in range(each)]
    return images, [kind for kind in kinds for _ in range(each)]


@pytest.fixture(scope="module")
def fitted(run):
    return FewShotClassifier(run).fit(*pictures(SHAPES[:5]))


def test_pictures_are_recognised(fitted):
    """Shapes that Omniglot has not, drawn here: 50 pictures, at most five of them wrong."""
    images, labels = pictures(SHAPES[:5], each=10, start=10)
    assert list(fitted.classes_) == sorted(SHAPES[:5])
    assert fitted.score(images, labels) >= 0.9
    probabilities = fitted.predict_proba(images)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(images)).all()


def test_it_is_the_learner_s_own_classification(run):
    """Against `classify` of the loaded run, on pictures prepared here."""
    images, labels = pictures(SHAPES[:5], side=28)
    others, _ = pictures(SHAPES[:5], start=10, side=28)
    x, other = (np.stack([np.asarray(i) for i in of])[..., None] for of in (images, others))
    classifier = FewShotClassifier(run, invert=False).fit(x, labels)
    loaded = mj.load(run)
    _, numbers = np.unique(labels, return_inverse=True)
    support = mj.Batch(x.astype(np.float32) / 255, numbers.astype(np.int32))
    steps = loaded.config.evaluation_steps
    logits = loaded.learner.classify(
        loaded.meta, support, other.astype(np.float32) / 255, steps=steps
    )
    expected = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(classifier.predict_proba(other), expected, atol=1e-5)


def test_predictions_do_not_depend_on_each_other(fitted):
    images, _ = pictures(SHAPES[:5], start=10)
    alone = np.concatenate([fitted.predict_proba([image]) for image in images])
    np.testing.assert_allclose(fitted.predict_proba(images), alone, atol=1e-6)


def test_paths_pictures_and_arrays_are_the_same(fitted, tmp_path):
    images, _ = pictures(SHAPES[:3], start=10)
    paths = [tmp_path / f"{n}.png" for n in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    expected = fitted.predict_proba(images)
    array = np.stack([np.asarray(image) for image in images])
    colours = np.repeat(array[..., None], 3, -1)
    several = [paths, [str(p) for p in paths], np.array(paths, str), array, colours, list(array)]
    for given in several:
        np.testing.assert_allclose(fitted.predict_proba(given), expected, atol=1e-6)


def test_the_scale_is_that_of_the_numbers(run):
    """Greys, as bytes, fractions and numbers of 0 to 16: fitted as any, predicted as any other."""
    rng = np.random.default_rng(0)
    greys = rng.integers(0, 17, (6, 28, 28)).astype(np.float64)
    greys[:, 0, :2] = 0, 16
    forms = {
        "bytes": np.round(greys * 255 / 16).astype(np.uint8),
        "fractions": np.round(greys * 255 / 16) / 255,
        "numbers": np.round(greys * 255 / 16) * 16 / 255,
    }
    labels = [0, 0, 1, 1, 2, 2]
    expected = FewShotClassifier(run).fit(forms["bytes"], labels).predict_proba(forms["bytes"])
    for fitted, predicted in [
        ("bytes", "fractions"),
        ("fractions", "bytes"),
        ("numbers", "numbers"),
        ("numbers", "bytes"),
    ]:
        classifier = FewShotClassifier(run).fit(forms[fitted], labels)
        for given in (forms[predicted], list(forms[predicted])):
            np.testing.assert_allclose(classifier.predict_proba(given), expected, atol=1e-5)
    with pytest.raises(InputError, match="`fit` saw no such numbers"):
        FewShotClassifier(run).fit(forms["bytes"], labels).predict(forms["numbers"])


def test_pictures_of_several_sizes_go_together(fitted):
    images = [picture("circle", 10, side) for side in (28, 40, 120)]
    alone = np.concatenate([fitted.predict_proba([image]) for image in images])
    np.testing.assert_allclose(fitted.predict_proba(images), alone, atol=1e-6)


@pytest.mark.parametrize("labels", [[3, 3, 8, 8], [0.5, 0.5, 1.5, 1.5], [True, True, False, False]])
def test_labels_may_be_numbers(run, labels):
    kinds = ["circle", "circle", "bar", "bar"]
    images = [picture(kind, n) for n, kind in enumerate(kinds)]
    if isinstance(labels[0], float):
        with pytest.raises(ValueError, match="continuous"):
            FewShotClassifier(run).fit(images, labels)
        return
    classifier = FewShotClassifier(run).fit(images, labels)
    assert classifier.predict(images).tolist() == labels


def test_more_classes_than_outputs_are_told_by_prototypes(run, caplog):
    caplog.set_level("INFO", "maml_jax")
    images, labels = pictures(SHAPES, each=3)
    classifier = FewShotClassifier(run).fit(images, labels)
    assert "7 classes are more than the 5 of the model's head: by prototypes" in caplog.text
    others, expected = pictures(SHAPES, start=10)
    assert classifier.predict_proba(others).shape == (14, 7)
    assert classifier.score(others, expected) > 0.3  # 1 of 7 by chance


def test_bright_pictures_are_inverted_for_a_model_of_bright_strokes(run):
    images, labels = pictures(SHAPES[:3], side=28)
    one = FewShotClassifier(run).fit(images, labels)
    assert one.invert_
    inverted = [Image.eval(image, lambda v: 255 - v) for image in images]
    other = FewShotClassifier(run).fit(inverted, labels)
    assert not other.invert_
    np.testing.assert_allclose(one.predict_proba(images), other.predict_proba(inverted), atol=1e-6)


@pytest.mark.slow  # adapts once for each picture
def test_the_temperature_by_leaving_one_out(run):
    images, labels = pictures(SHAPES[:5])
    classifier = FewShotClassifier(run, temperature="leave-one-out").fit(images, labels)
    assert 0.05 <= classifier.temperature_ <= 20
    assert classifier.temperature_ != 1
    with pytest.raises(InputError, match="needs two pictures of each class"):
        FewShotClassifier(run, temperature="leave-one-out").fit(images[:3], labels[:3])


def test_what_is_saved_predicts_the_same(run, fitted, tmp_path):
    images, _ = pictures(SHAPES[:5], start=10)
    fitted.save(tmp_path / "kept")
    loaded = FewShotClassifier.load(tmp_path / "kept")
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted.predict_proba(images))
    assert loaded.classes_.tolist() == fitted.classes_.tolist()
    with pytest.raises(InputError, match="exists"):
        fitted.save(tmp_path / "kept")
    again = clone(loaded).fit(*pictures(SHAPES[:2]))
    assert again.predict(images[:1]).tolist() == ["circle"]
    with pytest.raises(NotFittedError):
        FewShotClassifier.load(run).predict(images)


def test_a_learner_of_ones_own(run):
    loaded = mj.load(run)
    classifier = FewShotClassifier.from_learner(
        loaded.learner, loaded.meta, input_shape=(28, 28, 1), steps=3, invert=True
    )
    images, labels = pictures(SHAPES[:5])
    others, _ = pictures(SHAPES[:5], start=10)
    expected = FewShotClassifier(run, steps=3, invert=True).fit(images, labels)
    np.testing.assert_allclose(
        classifier.fit(images, labels).predict_proba(others), expected.predict_proba(others)
    )
    with pytest.raises(InputError, match="`model` was a learner"):
        classifier.save("nowhere")


def test_bad_input_is_one_line(run, fitted, tmp_path):
    images, labels = pictures(SHAPES[:2])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    cases = [
        (lambda: fitted.predict([text]), "not a readable image"),
        (lambda: fitted.predict([tmp_path / "none.png"]), "cannot be read"),
        (lambda: FewShotClassifier(run).fit(images, labels[:-1]), "3 labels; `X` has 4"),
        (lambda: FewShotClassifier(run, steps=-1).fit(images, labels), "`steps` was -1"),
        (lambda: FewShotClassifier(run, image_fit="x").fit(images, labels), "`image_fit`"),
        (lambda: FewShotClassifier().fit(images, labels), "`model` was a NoneType"),
        (lambda: FewShotClassifier(3).fit(images, labels), "`model` was a int"),
        (lambda: FewShotClassifier.from_pretrained("omniglot-5w"), "did you mean"),
        (lambda: FewShotClassifier.load(tmp_path), "`run` was"),
    ]
    for call, said in cases:
        with pytest.raises(ValueError, match=said) as error:
            call()
        assert len(str(error.value).splitlines()) == 1


ON_PICTURES_ALONE = {
    "check_classifiers_train": "wants 83 % on clouds of points with two features, no pictures",
}


@pytest.fixture
def small_run(tmp_path):
    """A run of a network that compiles in a moment."""
    folder = tmp_path / "small"
    options = ["--model", "mlp", "--hidden", "4", "--updates", "1", "--validate-every", "0"]
    assert main(["train", "--recipe", "quickstart", *options, "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow  # compiles for every shape that the fifty checks think of
@pytest.mark.filterwarnings("ignore::UserWarning")  # of scikit-learn, about what it leaves out
def test_scikit_learn_s_conventions(small_run):
    results = check_estimator(
        FewShotClassifier(str(small_run)), expected_failed_checks=ON_PICTURES_ALONE, on_fail="raise"
    )
    passed = [r for r in results if r["status"] == "passed"]
    assert len(passed) > 40
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


def odd(fill=0.5, *shape):
    return np.full(shape or (28, 28), fill, np.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (odd(np.nan), "no finite real numbers in picture 1"),
        (odd(np.inf), "no finite real numbers in picture 1"),
        (odd(0.5, 28, 28, 2), r"an array \(28, 28, 2\) as picture 1; a picture is"),
        (odd(0.5, 3, 28, 28)[:, :, :27], r"an array \(3, 28, 27\) as picture 1"),
        (odd(0.5, 5), r"an array \(5,\) as picture 1"),
        (odd(0.5, 0, 28), r"an array \(0, 28\) as picture 1"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(fitted, run, wrong, message):
    with pytest.raises(InputError, match=message):
        fitted.predict([odd(), wrong])
    with pytest.raises(InputError, match=message):
        FewShotClassifier(run).fit([odd(), wrong], ["a", "b"])


def test_one_path_is_no_sequence(fitted):
    with pytest.raises(InputError, match=r"`X` was 'photo.png'; it must be a sequence"):
        fitted.predict("photo.png")


def test_it_is_saved_with_numpy_s_numbers_and_used_from_another_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    classifier = FewShotClassifier(run.name, steps=np.int64(2), temperature=np.float32(2))
    classifier.fit(*pictures(SHAPES[:5])).save(tmp_path / "kept")
    images, _ = pictures(SHAPES[:5], start=10)
    expected = classifier.predict_proba(images)
    monkeypatch.chdir(tmp_path)
    again = FewShotClassifier.load("kept")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(classifier.predict_proba(images), expected)
    np.testing.assert_allclose(again.predict_proba(images), expected, rtol=1e-6)
    with pytest.raises(InputError, match="`path` was"):
        again.save("/proc/kept")
