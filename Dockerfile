# One file for processors and for NVIDIA GPUs; TORCH is the index of PyTorch's wheels that is used:
#   docker build -t any2all .
#   docker build -t any2all:cuda --build-arg TORCH=cu130 .   # see pytorch.org/get-started
#   docker run --rm -v "$PWD:/data" any2all sample --input patient --modalities T1=clean --output out
#   docker run --rm --gpus all -v "$PWD:/data" any2all:cuda train --data cohort --output run
FROM python:3.12-slim-bookworm

ARG TORCH=cpu
ARG TORCH_VERSION=2.13.0

ENV PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib

RUN pip install --no-cache-dir "torch==${TORCH_VERSION}" \
    --index-url "https://download.pytorch.org/whl/${TORCH}"

COPY packages /src/packages
RUN pip install --no-cache-dir \
        /src/packages/any2all-operators \
        /src/packages/any2all-core \
        /src/packages/any2all-samplers \
        "/src/packages/any2all-mri[kspace]" \
        "/src/packages/any2all-data[kspace,cohort,dicom,registration]" \
        /src/packages/any2all-virtual \
        /src/packages/any2all-app \
        /src/packages/any2all-demo \
        /src/packages/any2all-baselines \
        /src/packages/any2all-eval \
        "/src/packages/any2all-cli[prepare]" \
        /src/packages/any2all \
    && useradd --create-home --uid 1000 any2all

# results belong to who started it: docker run --user "$(id -u):$(id -g)"
USER 1000
WORKDIR /data
ENTRYPOINT ["any2all"]
CMD ["--help"]
