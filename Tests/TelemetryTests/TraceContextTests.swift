import Telemetry
import Testing

@Suite struct TraceContextTests {
    @Test func `a trace is taken from a header and written as one`() throws {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        let trace = try #require(TraceContext(traceparent: header))
        #expect(trace.traceID == "4bf92f3577b34da6a3ce929d0e0e4736")
        #expect(trace.traceparent == header)
    }

    @Test func `a header of a later version is read as far as it is known`() {
        let trace = TraceContext(traceparent: "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-else")
        #expect(trace?.traceparent == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    }

    @Test(arguments: [
        "", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
    ])
    func `what the W3C forbids is no trace`(_ header: String) {
        #expect(TraceContext(traceparent: header) == nil)
    }

    @Test func `traces that begin are well formed, and no two are the same`() {
        let traces = (0..<1000).map { _ in TraceContext() }
        #expect(Set(traces.map(\.traceID)).count == 1000)
        #expect(traces.allSatisfy { TraceContext(traceparent: $0.traceparent) == $0 })
    }
}

@Suite struct CountersTests {
    @Test func `what is known from the start is there as 0, and each combination is counted for itself`() {
        let counters = Counters(["verb", "result"], known: [["ADD", "ok"], ["ADD", "refused"]])
        counters.count("ADD", "refused")
        counters.count("ADD", "refused")
        counters.count("DEL", "ok")
        var exposition = Exposition()
        exposition.counter("requests_total", "All.", counters.samples)
        #expect(
            exposition.text == """
                # HELP requests_total All.
                # TYPE requests_total counter
                requests_total{verb="ADD",result="ok"} 0
                requests_total{verb="ADD",result="refused"} 2
                requests_total{verb="DEL",result="ok"} 1

                """)
    }
}
