"""The Python rivals: ThreadPoolExecutor, LangGraph's ToolNode, pydantic-ai.

peers.py measure SECONDS       prints the medians as JSON, SECONDS a workload and size
peers.py probe RIVAL FAULT     runs a turn in which the middle call misbehaves; prints what came back
peers.py versions              prints what is installed

The tools are the same as the Rust rivals'. An agent is timed from the moment the model's message is
handed to it until it asks the model again. Each is allowed as many threads as there are calls.
"""

import asyncio
import json
import logging
import platform
import random
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import anyio.to_thread
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel

SIZES = [1, 3, 10, 100, 1000]
LONG = 500
DEADLINE = 0.5
DONE = "done"


class Longest:
    """The longest run inside a handler since it was last taken."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seconds = 0.0

    def note(self, seconds):
        with self.lock:
            self.seconds = max(self.seconds, seconds)

    def take(self):
        with self.lock:
            seconds, self.seconds = self.seconds, 0.0
            return seconds


longest = Longest()


def sleep(seconds):
    start = time.perf_counter()
    time.sleep(seconds)
    longest.note(time.perf_counter() - start)
    return DONE


def no_op() -> str:
    return DONE


def nap() -> str:
    return sleep(0.005)


def long_nap() -> str:
    return sleep(0.020)


def fail() -> str:
    raise ValueError("it broke")


def hang() -> str:
    while True:
        time.sleep(3600)


def panic() -> str:
    """What comes nearest to a panic: an exception that is no `Exception`."""
    raise BaseException("it panicked")


TOOLS = {tool.__name__: tool for tool in [no_op, nap, long_nap, fail, hang, panic]}


class Script:
    """What the model says, what it notices: the calls, then the end."""

    def __init__(self):
        self.answered = None
        self.took = None

    def asked(self):
        """Whether this is the first question."""
        now = time.perf_counter()
        if self.answered is None:
            return True
        self.took = now - self.answered
        return False

    def answer(self, message):
        self.answered = time.perf_counter()
        return message


class Pool:
    name = "ThreadPoolExecutor"
    deadline = "`result(timeout)` of each future"

    def __init__(self, threads, deadline=None):
        self.pool = ThreadPoolExecutor(max_workers=threads)
        self.deadline_at = deadline

    def run(self, names):
        start = time.perf_counter()
        futures = [self.pool.submit(TOOLS[name]) for name in names]
        results = []
        for future in futures:
            left = None
            if self.deadline_at is not None:
                left = max(0.0, start + self.deadline_at - time.perf_counter())
            try:
                results.append(future.result(left))
            except Exception as error:
                results.append(repr(error))
        return time.perf_counter() - start, results


class LangGraph:
    name = "LangGraph ToolNode"
    deadline = "`step_timeout` of the graph"
    options = {}

    def __init__(self, threads, deadline=None):
        self.config = {"max_concurrency": threads}
        tools = [
            StructuredTool.from_function(tool, name=name, description="Works")
            for name, tool in TOOLS.items()
        ]
        graph = StateGraph(MessagesState)
        graph.add_node("model", self.model)
        graph.add_node("tools", ToolNode(tools, **self.options))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", lambda _: END if self.script.took else "tools")
        graph.add_edge("tools", "model")
        self.graph = graph.compile()
        self.graph.step_timeout = deadline

    def model(self, state):
        if not self.script.asked():
            results = [m for m in state["messages"] if m.type == "tool"]
            self.results = [str(result.content) for result in results]
            return {"messages": [AIMessage("all done")]}
        calls = [
            {"name": name, "args": {}, "id": f"call_{at}", "type": "tool_call"}
            for at, name in enumerate(self.names)
        ]
        return self.script.answer({"messages": [AIMessage("", tool_calls=calls)]})

    def run(self, names):
        self.names, self.script, self.results = names, Script(), []
        self.graph.invoke({"messages": [("user", "go")]}, self.config)
        return self.script.took, self.results


class LangGraphThatHandlesErrors(LangGraph):
    """By default an exception in a tool ends the whole run."""

    name = "LangGraph ToolNode, `handle_tool_errors`"
    options = {"handle_tool_errors": True}


class PydanticAi:
    name = "pydantic-ai"
    deadline = "`tool_timeout` of the agent"

    def __init__(self, threads, deadline=None):
        self.threads = threads
        self.agent = Agent(FunctionModel(self.model), tool_timeout=deadline)
        for tool in TOOLS.values():
            self.agent.tool_plain(tool)
        self.runner = asyncio.Runner()

    def model(self, messages, _info):
        if not self.script.asked():
            parts = messages[-1].parts
            self.results = [
                str(part.content) if isinstance(part, ToolReturnPart) else repr(part)
                for part in parts
            ]
            return ModelResponse(parts=[TextPart("all done")])
        parts = [
            ToolCallPart(name, {}, tool_call_id=f"call_{at}")
            for at, name in enumerate(self.names)
        ]
        return self.script.answer(ModelResponse(parts=parts))

    async def go(self):
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = max(40, self.threads)
        await self.agent.run("go")

    def run(self, names):
        self.names, self.script, self.results = names, Script(), []
        self.runner.run(self.go())
        return self.script.took, self.results


MEASURED = [Pool, LangGraph, PydanticAi]
RIVALS = [Pool, LangGraph, LangGraphThatHandlesErrors, PydanticAi]


def overhead(rival, work, n):
    longest.take()
    took, results = rival.run([work] * n)
    assert results == [DONE] * n, f"{rival.name}: {results[:3]}"
    return max(0.0, took - longest.take())


def measure(seconds):
    rows = []
    workloads = [(work, n) for work in ["no_op", "nap"] for n in SIZES] + [("long_nap", LONG)]
    for work, n in workloads:
        rivals = [rival(n) for rival in MEASURED]
        figures = {rival.name: [] for rival in MEASURED}
        began = time.perf_counter()
        rounds = 0
        while rounds < 7 or (time.perf_counter() - began < seconds and rounds < 300):
            random.shuffle(rivals)
            for rival in rivals:
                rival.run([work] * n)
                figure = overhead(rival, work, n)
                if rounds >= 2:
                    figures[rival.name].append(figure)
            rounds += 1
        for name, values in figures.items():
            micros = statistics.median(values) * 1e6
            rows.append({"rival": name, "work": work, "n": n, "micros": micros, "rounds": rounds - 2})
    print(json.dumps(rows))


def probe(name, fault):
    rival = next(rival for rival in RIVALS if rival.name == name)(3, DEADLINE)
    start = time.perf_counter()
    try:
        _, results = rival.run(["nap", fault, "nap"])
    except Exception as error:
        results = [f"the run ended: {error!r}"]
    millis = (time.perf_counter() - start) * 1e3
    print(json.dumps({"results": results, "millis": millis}), flush=True)


def versions():
    packages = ["langchain-core", "langgraph", "langgraph-prebuilt", "pydantic-ai-slim"]
    found = {package: metadata.version(package) for package in packages}
    print(json.dumps({"Python": platform.python_version(), **found}))


def main(arguments):
    logging.disable(logging.CRITICAL)
    match arguments:
        case ["measure", seconds]:
            measure(float(seconds))
        case ["probe", rival, fault]:
            probe(rival, fault)
        case ["rivals"]:
            print(json.dumps([{"name": r.name, "deadline": r.deadline} for r in RIVALS]))
        case ["versions"]:
            versions()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
