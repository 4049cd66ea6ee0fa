"""What other tools print is read rightly."""

import pytest

from gateway.errors import ConfigurationError
from loadtest.peers.load_tools import read_locust, read_perf_analyzer, read_wrk

WRK = """Running 10s test @ http://127.0.0.1:4711/1
  1 threads and 16 connections
  15012 requests in 10.01s, 0.98MB read
Requests/sec:   1499.87
Transfer/sec:    100.56KB
"""
CSV = """Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency
1,90.5,10,11000,12000,13000,15000
"""

LOCUST = """Type,Name,Request Count,Failure Count,50%,75%,90%,95%,99%,100%
GET,/,3600,0,59,64,73,2000,2100,2300
,Aggregated,3601,0,60,64,74,2000,2100,2300
"""


def test_the_rate_of_wrk_is_read():
    assert read_wrk(WRK) == 1499.87


def test_perf_analyzers_microseconds_are_read_as_milliseconds():
    assert read_perf_analyzer(CSV) == {"per_s": 90.5, "ms_p50": 11, "ms_p95": 13, "ms_p99": 15}


def test_locusts_last_row_is_read():
    told = {"p50": 60, "p90": 74, "p95": 2000, "p99": 2100, "sent": 3601}
    assert read_locust(LOCUST) == told


def test_output_without_the_figures_is_refused():
    with pytest.raises(ConfigurationError, match="no rate"):
        read_wrk("unable to connect")
    with pytest.raises(ConfigurationError, match="p99 latency"):
        read_perf_analyzer(CSV.replace("p99 latency", "p98 latency"))
    with pytest.raises(ConfigurationError, match="no figures"):
        read_locust(LOCUST.replace("99%", "98%"))
    with pytest.raises(ConfigurationError, match="no figures"):
        read_locust("")
