# Server, caption page and bundled model.
#
#   docker build -t stream-asr .                                                          # CPU
#   docker build -t stream-asr:cuda --build-arg TORCH_INDEX= .                            # NVIDIA GPU; several GB
#   docker run --rm -p 127.0.0.1:8765:8765 -v models:/models stream-asr
#
# compose.yaml runs both images.

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
# Package index of PyTorch: this index has builds without CUDA. If empty, PyPI, which has builds with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
# A separate layer, which is still cached when the package has changed.
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stream_asr stream_asr
RUN pip install --constraint constraints.txt '.[av,server,silero]'

FROM python:${PYTHON_VERSION}-slim
RUN useradd --create-home --uid 10001 captions && install --directory --owner captions /models
COPY --from=build /opt/venv /opt/venv
# The NVIDIA runtime reads the last two variables; otherwise, they have no effect.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /home/captions
# Models downloaded from the Hugging Face Hub.
VOLUME /models
EXPOSE 8765
# Plain HTTP: a proxy in front of the container terminates TLS.
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["stream-asr"]
CMD ["serve", "--host", "0.0.0.0"]
