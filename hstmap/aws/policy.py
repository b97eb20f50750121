"""Policies with no more rights than are used: of workers, and of who runs, deploys and pushes."""

from __future__ import annotations

from typing import Any, Final

from hstmap.aws.settings import AwsSettings

__all__ = ["LAMBDA_TRUST", "deployer_policy", "pusher_policy", "runner_policy", "worker_policy"]

#: Who may take the workers' role.
LAMBDA_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}

_OF_REPOSITORIES: Final = [
    # Lambda wants these two of who makes a function of an image.
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:CreateRepository",
    "ecr:DeleteRepository",
    "ecr:DescribeImageScanFindings",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:GetLifecyclePolicy",
    "ecr:GetRepositoryPolicy",
    "ecr:ListTagsForResource",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutLifecyclePolicy",
    "ecr:SetRepositoryPolicy",
    "ecr:TagResource",
]


def worker_policy(settings: AwsSettings) -> dict[str, Any]:
    """Write what workers may do: their buckets, and their log.

    Parameters
    ----------
    settings : AwsSettings

    Returns
    -------
    dict
        A policy document.
    """
    buckets = [settings.bucket, *settings.buckets]
    # Without the right to list, S3 answers 403 for what is not there, which is another outcome.
    return _policy(
        _allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], _objects(buckets)),
        _allow(["s3:ListBucket"], _arns(buckets)),
        _allow(["logs:CreateLogStream", "logs:PutLogEvents"], [f"{_log_group(settings)}:*"]),
    )


def runner_policy(settings: AwsSettings) -> dict[str, Any]:
    """Write what is needed to run ``hstmap map`` and ``reduce`` on a function that is deployed.

    Parameters
    ----------
    settings : AwsSettings

    Returns
    -------
    dict
        A policy document.
    """
    buckets = [settings.bucket, *settings.buckets]
    return _policy(
        _allow(
            [
                "lambda:GetFunction",
                "lambda:GetFunctionEventInvokeConfig",
                "lambda:InvokeFunction",
                "lambda:ListTags",
                "lambda:PutFunctionEventInvokeConfig",
                "lambda:TagResource",
                "lambda:UpdateFunctionConfiguration",
            ],
            [settings.function_arn],
        ),
        # Lambda wants it of who changes the configuration of a function.
        _allow(["iam:PassRole"], [settings.role]),
        _allow(
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            _objects(buckets),
        ),
        _allow(["s3:ListBucket"], _arns(buckets)),
        _allow(["logs:FilterLogEvents"], [f"{_log_group(settings)}:*"]),
        # It has no resource to be narrowed to.
        _allow(["lambda:GetAccountSettings"], ["*"]),
    )


def deployer_policy(settings: AwsSettings) -> dict[str, Any]:
    """Write what ``hstmap deploy``, ``undeploy`` and ``doctor`` need beside a runner's rights.

    Parameters
    ----------
    settings : AwsSettings

    Returns
    -------
    dict
        A policy document.
    """
    return _policy(
        _allow(
            [
                "lambda:CreateFunction",
                "lambda:DeleteFunction",
                "lambda:UpdateFunctionCode",
            ],
            [settings.function_arn],
        ),
        _allow(
            [
                "iam:CreateRole",
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:GetRole",
                "iam:GetRolePolicy",
                "iam:ListRolePolicies",
                "iam:PutRolePolicy",
                "iam:SimulatePrincipalPolicy",
                "iam:TagRole",
            ],
            [settings.role],
        ),
        _allow(
            [
                "s3:CreateBucket",
                "s3:DeleteBucket",
                "s3:GetBucketLocation",
                "s3:GetBucketTagging",
                "s3:PutBucketPublicAccessBlock",
                "s3:PutBucketTagging",
                "s3:PutLifecycleConfiguration",
            ],
            _arns([settings.bucket]),
        ),
        _allow(
            [
                "logs:CreateLogGroup",
                "logs:DeleteLogGroup",
                "logs:ListTagsForResource",
                "logs:PutRetentionPolicy",
                "logs:TagResource",
            ],
            [_log_group(settings), f"{_log_group(settings)}:*"],
        ),
        _allow(_OF_REPOSITORIES, [_repository(settings)]),
        # Neither has these.
        _allow(["logs:DescribeLogGroups", "lambda:ListFunctions"], ["*"]),
    )


def pusher_policy(settings: AwsSettings) -> dict[str, Any]:
    """Write what ``runtime/build --image --push`` needs, once the repository is there.

    Parameters
    ----------
    settings : AwsSettings

    Returns
    -------
    dict
        A policy document.
    """
    return _policy(
        _allow(
            [
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:CompleteLayerUpload",
                "ecr:DescribeRepositories",
                "ecr:GetDownloadUrlForLayer",
                "ecr:GetLifecyclePolicy",
                "ecr:GetRepositoryPolicy",
                "ecr:InitiateLayerUpload",
                "ecr:ListTagsForResource",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            [_repository(settings)],
        ),
        # It is of a registry, and has no resource to be narrowed to.
        _allow(["ecr:GetAuthorizationToken"], ["*"]),
    )


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _arns(buckets: list[str]) -> list[str]:
    return [f"arn:aws:s3:::{bucket}" for bucket in buckets]


def _objects(buckets: list[str]) -> list[str]:
    return [f"{arn}/*" for arn in _arns(buckets)]


def _log_group(settings: AwsSettings) -> str:
    return f"arn:aws:logs:{settings.region}:{settings.account_id}:log-group:{settings.log_group}"


def _repository(settings: AwsSettings) -> str:
    return f"arn:aws:ecr:{settings.region}:{settings.account_id}:repository/{settings.repository}"
