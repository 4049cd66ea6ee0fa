"""The load-test harness: scenarios fired on schedule, SLO verdicts, reports."""
