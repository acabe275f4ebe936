"""Send random images to ResNet-50 over TensorFlow Serving's API: the last step of the Gramine serving example.

    python examples/serving/dummy_image_client.py localhost:8500 --ca ca_cert.pem [--key key.pem --cert cert.pem]
    python examples/serving/dummy_image_client.py localhost:8500 --attested --policy policy.toml \
        --simulated-machine machine

The first form is one-way or two-way TLS with certificates of `strongroom tls`. The second verifies the server's quote
against a policy before anything is sent. `--plaintext` is for trying out on one machine.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.cli.policy_file import load_policy
from strongroom.client import GrpcClient, Trust
from strongroom.client.questions import PREDICT, Question, as_predict_request, from_predict_response
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.serving.tensors.dtypes import Array


def ordinary(arguments: argparse.Namespace, question: Question) -> Callable[[], Array]:
    if arguments.plaintext:
        channel = grpc.insecure_channel(arguments.address)
    else:
        files = [None if path is None else path.read_bytes() for path in (arguments.ca, arguments.key, arguments.cert)]
        channel = grpc.secure_channel(arguments.address, grpc.ssl_channel_credentials(*files))
    stub = channel.unary_unary(PREDICT)
    raw = as_predict_request(question)
    return lambda: from_predict_response(stub(raw, timeout=60), None).outputs["predict"]


def attested(arguments: argparse.Namespace, question: Question) -> Callable[[], Array]:
    machine = SimulatedMachine.load(arguments.simulated_machine)
    collateral, root = Collateral.from_json(machine.collateral()), TrustRoot("simulated", machine.root_der)
    trust = Trust(lambda quote, now: verify_quote(quote, collateral, root, now).claims, load_policy(arguments.policy))
    client = GrpcClient(arguments.address, trust, seal_requests=arguments.seal_requests)
    return lambda: client.predict(question.model, question.inputs).outputs["predict"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="host:port")
    parser.add_argument("--model", default="resnet50-v15-fp32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--plaintext", action="store_true")
    parser.add_argument("--attested", action="store_true")
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--simulated-machine", type=Path)
    parser.add_argument("--seal-requests", action="store_true")
    arguments = parser.parse_args()
    images = np.random.default_rng().random((arguments.batch, 224, 224, 3), dtype=np.float32)
    question = Question(arguments.model, {"input": images})
    if arguments.attested and not (arguments.policy and arguments.simulated_machine):
        sys.exit("--attested needs --policy and --simulated-machine")
    ask = (attested if arguments.attested else ordinary)(arguments, question)
    for number in range(arguments.count):
        started = time.perf_counter()
        predictions = ask()
        elapsed = time.perf_counter() - started
        best = predictions.argmax(axis=1).tolist()
        print(f"{number}: classes {best}, {1000 * elapsed:.1f} ms, {arguments.batch / elapsed:.1f} images/s")


if __name__ == "__main__":
    main()
