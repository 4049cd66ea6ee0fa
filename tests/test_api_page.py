from html.parser import HTMLParser

from gateway.api.api_page import render
from gateway.api.decoding import Query
from gateway.api.openapi import Operation, document
from gateway.api.service import Endpoint
from gateway.schemas import InvestmentRequest, SearchRequest, Video, VideoMetadata

HOSTILE = '<script>alert("x")</script>'


def test_every_text_of_the_description_is_escaped() -> None:
    operation = Operation("GET", f"/a/{{{'id'}}}", HOSTILE, Endpoint(reply=Video))
    told = document([operation], HOSTILE)
    page = render(told)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2


def test_the_page_is_whole_html() -> None:
    endpoint = Endpoint(reply=Video, query=Query(SearchRequest), body=InvestmentRequest)
    page = render(document([Operation("POST", "/a", "Sum", endpoint)], "1"))
    parser = HTMLParser()
    parser.feed(page)
    parser.close()
    assert page.startswith("<!doctype html>")
    assert page.count("<details") == page.count("</details>")
    assert page.count("<table") == page.count("</table>")


def test_forms_and_bodies_are_both_described() -> None:
    endpoint = Endpoint(
        reply=Video, status=202, body=InvestmentRequest, form={"file": bytes, "m": VideoMetadata}
    )
    told = document([Operation("POST", "/a/{b}", "Sum", endpoint)], "1")
    operation = told["paths"]["/a/{b}"]["post"]
    assert operation["operationId"] == "post_a_b"
    assert operation["parameters"][0]["in"] == "path"
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert set(operation["responses"]) == {"202"}


def test_what_stands_between_backticks_is_shown_as_code() -> None:
    operation = Operation("GET", "/a", "Read `a` & `<b>`", Endpoint(reply=Video))
    page = render(document([operation], "1"))
    assert "Read <code>a</code> &amp; <code>&lt;b&gt;</code>" in page
    assert "`" not in page
