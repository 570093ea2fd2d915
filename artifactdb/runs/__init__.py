"""Runs and the pipelines that they train: numbered, described, timed, and found again when their process died."""

from artifactdb.runs.records import PipelineRecord, RunRecord
from artifactdb.runs.run import PipelineRun, Run

__all__ = ["PipelineRecord", "PipelineRun", "Run", "RunRecord"]
