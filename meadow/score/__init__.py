"""Scoring a model on the multiple-choice questions of an exam.

``recipes/score_usmle.py`` shows the steps: read the exam (`exams`), open the model (`local` or `endpoint`), ask by one
of the `protocols` (`asking`), find out what the model may have read (`leaks`), compute (`summary`) and report
(`report`). Each answer is in ``predictions.jsonl`` as it comes, so that a killed run goes on where it stopped.
"""

from meadow.score.predictions import ResumeError, ScoringError
from meadow.score.settings import ScoreSettings, ScoreSettingsError, problems

__all__ = ["ResumeError", "ScoreSettings", "ScoreSettingsError", "ScoringError", "problems"]
