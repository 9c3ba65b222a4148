"""FastAPI and OpenVINO, as one writes them to serve a converted model.

usage: openvino_server.py MODEL.xml LABELS.txt [PRECISION]
"""

import io
import sys
import threading
from pathlib import Path

import numpy as np
import openvino as ov
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

MEAN = np.array([103.939, 116.779, 123.68], np.float32)

hints = {"INFERENCE_PRECISION_HINT": sys.argv[3]} if sys.argv[3:] else {}
model = ov.Core().compile_model(sys.argv[1], "CPU", hints)
labels = Path(sys.argv[2]).read_text().splitlines()
lock = threading.Lock()
app = FastAPI()


def classify(body: bytes) -> list[dict]:
    with Image.open(io.BytesIO(body)) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    batch = pixels[np.newaxis, ..., ::-1] - MEAN
    with lock:  # one compiled model takes one call at a time
        probabilities = model(batch)[0][0]
    best = probabilities.argsort()[::-1][:5]
    return [{"label": labels[index], "probability": float(probabilities[index])} for index in best]


@app.post("/predict")
async def predict(request: Request):
    return {"predictions": await run_in_threadpool(classify, await request.body())}


model(np.zeros((1, 224, 224, 3), np.float32))
uvicorn.run(app, port=0, access_log=False)
