"""The routes of jobs: what they do, how far they are, and what is asked of them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Response, get, patch, post
from litestar.response import Stream
from msgspec import Meta

from gateway.api.decoding import Query, checked_id, decode_json, decode_query
from gateway.api.service import Endpoint, Request, service_of
from gateway.api.watching import Watch
from gateway.media_schemas import JobPatch, Jobs
from gateway.schemas import Id, Job, JobState, Strict

MAX_PAGE = 100  # jobs
RETRY_MS = 2_000  # after which a browser that lost the connection comes again


class JobsQuery(Strict, frozen=True, kw_only=True):
    """`GET /v1/jobs`."""

    state: JobState | None = None
    video_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 20


JOBS_QUERY = Query(JobsQuery)
LIST = Endpoint(reply=Jobs, query=JOBS_QUERY, errors=(400, 503))
READ = Endpoint(reply=Job, errors=(400, 404, 503))
CHANGE = Endpoint(reply=Job, body=JobPatch, errors=(400, 404, 409, 503))
CANCEL = Endpoint(reply=Job, errors=(400, 404, 409, 503))
EVENTS = Endpoint(reply=Job, media_type="text/event-stream", errors=(400, 404, 429, 503))


@get("/v1/jobs", opt=LIST.opt)
async def list_jobs(request: Request) -> Jobs:
    """List jobs, newest first."""
    query = decode_query(request.query_params.multi_items(), JOBS_QUERY)
    doors = service_of(request).doors
    page = doors.catalogue.control.page
    jobs = await doors.threads.call(
        page, state=query.state, video_id=query.video_id, limit=query.limit
    )
    return Jobs(jobs=jobs)


@get("/v1/jobs/{job_id:str}", opt=READ.opt)
async def read_job(request: Request, job_id: str) -> Job:
    """Read a job: its state, what it is doing, and how far it is."""
    doors = service_of(request).doors
    return await doors.threads.call(doors.catalogue.jobs.job, checked_id(job_id, "job_id"))


@patch("/v1/jobs/{job_id:str}", opt=CHANGE.opt)
async def change_job(request: Request, job_id: str) -> Job:
    """Say how urgent a job is that waits: those with the highest priority come first."""
    change = decode_json(await request.body(), JobPatch)
    doors = service_of(request).doors
    return await doors.threads.call(
        doors.catalogue.control.set_priority, checked_id(job_id, "job_id"), change.priority
    )


@post("/v1/jobs/{job_id:str}/cancel", status_code=200, opt=CANCEL.opt)
async def cancel_job(request: Request, job_id: str) -> Job:
    """Stop a job. An ingest that never ended takes its video's file along."""
    doors = service_of(request).doors
    return await doors.threads.call(doors.catalogue.control.cancel, checked_id(job_id, "job_id"))


@get("/v1/jobs/{job_id:str}/events", opt=EVENTS.opt)
async def job_events(request: Request, job_id: str) -> Response[Any]:
    """Listen to a job: server-sent events named `job`, each a `Job`; the last one tells its end."""
    service = service_of(request)
    doors = service.doors
    job = await doors.threads.call(doors.catalogue.jobs.job, checked_id(job_id, "job_id"))
    service.watch.require_place()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy holds events back
    content = _events(service.watch, job)
    return Stream(content, headers=headers, media_type="text/event-stream")


ROUTES = [list_jobs, read_job, change_job, cancel_job, job_events]


async def _events(watch: Watch, job: Job) -> AsyncIterator[bytes]:
    """Yield a job's states as server-sent events."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    async for state in watch.states(job):
        if state is None:
            yield b": alive\n\n"
        else:
            yield b"event: job\ndata: " + msgspec.json.encode(state) + b"\n\n"
