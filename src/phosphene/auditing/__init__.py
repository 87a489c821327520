"""Sanity checks on the results of a study: lines with a verdict, and the tables behind them.

``case`` what the questions are asked of · ``asking`` and ``baselines`` the questions · ``checks``
their arithmetic · ``verdicts`` numbers in, verdict and sentence out; every threshold with its
reason. Every line is explained in docs/audit.md.
"""
