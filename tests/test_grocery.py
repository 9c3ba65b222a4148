"""Real photographs: heads trained on them score the same over HTTP as in Keras."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from process import serving
from stored import empty

from service.store.card import PREPROCESSING

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "grocery10"
SIDE = 128

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not on this machine"),
]


def load(split: str, labels: list[str]) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files, pixels by Keras' own loader (n, side, side, 3), and classes."""
    from keras_models import keras

    files = [file for label in labels for file in sorted((PHOTOS / split / label).iterdir())]
    images = [
        keras.utils.img_to_array(keras.utils.load_img(file, target_size=(SIDE, SIDE))) for file in files
    ]
    return files, np.stack(images), np.array([labels.index(file.parent.name) for file in files])


def train(base, pooling, features, classes):
    """A saved model's worth: pooling, batch normalisation, one Dense, trained on features."""
    from keras_models import keras

    keras.utils.set_random_seed(3)
    head = keras.Sequential(
        [
            keras.Input(features.shape[1:]),
            pooling,
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    head.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    head.fit(features, classes, epochs=15, batch_size=32, verbose=0)
    tensor = base.output
    for layer in head.layers:
        tensor = layer(tensor)
    return keras.Model(base.inputs[0], tensor)


def test_accuracy_over_http_is_that_of_keras_on_the_same_files(tmp_path):
    from keras_models import backbone, keras, save

    from service.lab.models.importing import ImportOptions, import_model

    labels = sorted(folder.name for folder in (PHOTOS / "train").iterdir())
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    preprocess = keras.applications.resnet50.preprocess_input
    _, train_pixels, train_classes = load("train", labels)
    files, test_pixels, test_classes = load("test", labels)
    base = backbone(seed=11, side=SIDE)
    features = base.predict(preprocess(train_pixels), verbose=0)
    store = empty(tmp_path)
    expected = {}
    for head, pooling in {
        "gap": keras.layers.GlobalAveragePooling2D(),
        "flatten": keras.layers.Flatten(),
    }.items():
        model = train(base, pooling, features, train_classes)
        expected[head] = model.predict(preprocess(test_pixels.copy()), verbose=0)
        wishes = ImportOptions(
            head, tmp_path / "labels.txt", resize="load_img", preprocessing=PREPROCESSING["caffe"]
        )
        import_model(store, save(model, tmp_path, head), wishes)

    with serving(store) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for head, keras_says in expected.items():
            answers = np.concatenate(
                [ask(client, head, files[i : i + 20]) for i in range(0, len(files), 20)]
            )
            np.testing.assert_allclose(answers, keras_says, atol=1e-4)
            ours, theirs = ((p.argmax(axis=1) == test_classes).mean() for p in (answers, keras_says))
            assert ours == theirs
            assert ours > 0.2, "chance is 0.1"


def test_a_check_finds_what_the_training_did_on_pictures_that_it_did_not_see(tmp_path):
    from keras_models import calibrate, keras, save

    from service.lab.models.importing import ImportOptions, import_model

    labels = sorted(folder.name for folder in (PHOTOS / "train").iterdir())
    _, train_pixels, train_classes = load("train", labels)
    _, test_pixels, test_classes = load("test", labels)
    keras.utils.set_random_seed(11)
    base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    calibrate(base, train_pixels[::25] / 255)
    features = base.predict(train_pixels / 255, verbose=0)
    model = train(base, keras.layers.GlobalAveragePooling2D(), features, train_classes)
    right = model.predict(test_pixels / 255, verbose=0).argmax(axis=1) == test_classes

    wishes = ImportOptions("gap", check=PHOTOS, resize="load_img")
    card = import_model(empty(tmp_path), save(model, tmp_path), wishes)
    assert card.input.preprocessing == PREPROCESSING["unit"]
    assert card.labels == tuple(labels)
    told = "preprocessing unit is better than the assumed caffe"
    assert f"--check on 200 pictures: {told}: {100 * right.mean():.1f} % right" in "".join(card.notes)


def ask(client: httpx.Client, head: str, files: list[Path]) -> np.ndarray:
    """Probabilities of the files, (n, 10), in label order."""
    bodies = [("file", (file.name, file.read_bytes())) for file in files]
    answer = client.post(f"/predict?head={head}&top_k=10", files=bodies)
    rows = [
        {p["index"]: p["probability"] for p in result["predictions"]}
        for result in answer.json()["results"]
    ]
    return np.array([[row[index] for index in range(10)] for row in rows])
