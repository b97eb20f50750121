"""Images without Docker: a Dockerfile's orders done by hand, and a registry that has them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

#: What AWS's base images for Python set (public.ecr.aws/lambda/python).
BASE = {"LAMBDA_TASK_ROOT": "/var/task"}


def orders(dockerfile: Path) -> list[tuple[str, str]]:
    """Read a Dockerfile: orders and what they are given."""
    lines = dockerfile.read_text().splitlines()
    split = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(order, rest.strip()) for order, _, rest in split]


def unpack(dockerfile: Path, context: Path, root: Path) -> dict[str, Any]:
    """Do what a Dockerfile says, and leave the root with its ``config.json``; return the latter."""
    config: dict[str, Any] = {"WorkingDir": BASE["LAMBDA_TASK_ROOT"]}
    for order, rest in orders(dockerfile):
        if order == "COPY":
            source, target = rest.replace("${LAMBDA_TASK_ROOT}", BASE["LAMBDA_TASK_ROOT"]).split()
            shutil.copytree(context / source, root / target.strip("/"), dirs_exist_ok=True)
        elif order == "CMD":
            config["Cmd"] = json.loads(rest)
        elif order == "USER":
            config["User"] = rest
        elif order not in ("ARG", "FROM"):
            raise AssertionError(f"{order} is nothing that this does")
    (root / "config.json").write_text(json.dumps(config))
    return config


def push(client: Any, repository: str, tag: str, content: bytes) -> str:
    """Put an image's manifest into ECR; return its digest."""
    layer = hashlib.sha256(content).hexdigest()
    kind = "application/vnd.oci.image.manifest.v1+json"
    part = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(content)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": part | {"digest": f"sha256:{layer}"},
        "layers": [part | {"digest": f"sha256:{layer}"}],
    }
    # moto deletes an image with its last tag, which ECR does not: let it have another.
    for name in (f"also-{layer[:12]}", tag):
        client.put_image(
            repositoryName=repository,
            imageManifest=json.dumps(manifest),
            imageManifestMediaType=kind,
            imageTag=name,
        )
    answer = client.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    return str(answer["imageDetails"][0]["imageDigest"])
