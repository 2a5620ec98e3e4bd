"""Extensions of fednano, outside the package."""
