"""FastAPI and `model.predict`, as one writes them to serve a saved model.

usage: keras_server.py MODEL.keras LABELS.txt
"""

import io
import sys
from pathlib import Path

import keras
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from keras.applications.resnet50 import preprocess_input
from PIL import Image

model = keras.models.load_model(sys.argv[1])
labels = Path(sys.argv[2]).read_text().splitlines()
app = FastAPI()


def classify(body: bytes) -> list[dict]:
    with Image.open(io.BytesIO(body)) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    probabilities = model.predict(preprocess_input(pixels[np.newaxis].astype("float32")), verbose=0)[0]
    best = probabilities.argsort()[::-1][:5]
    return [{"label": labels[index], "probability": float(probabilities[index])} for index in best]


@app.post("/predict")
async def predict(request: Request):
    return {"predictions": await run_in_threadpool(classify, await request.body())}


model.predict(np.zeros((1, 224, 224, 3), "float32"), verbose=0)
uvicorn.run(app, port=0, access_log=False)
