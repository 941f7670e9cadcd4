import Telemetry
import Testing

@Suite struct TelemetryTests {
    @Test func `a histogram counts a value in the first bucket whose bound it does not pass`() {
        let histogram = Histogram(bounds: [0.5, 1, 4])
        for value in [0.25, 0.5, 0.75, 4, 4.5, 100] { histogram.observe(value) }
        let reading = histogram.reading
        #expect(reading.counts == [2, 1, 1, 2])
        #expect(reading.sum == 110)
    }

    @Test func `a duration is counted in seconds`() {
        let histogram = Histogram(bounds: Histogram.secondsOfCalls)
        histogram.observe(.microseconds(100))
        histogram.observe(.milliseconds(2))
        histogram.observe(.seconds(60))
        let reading = histogram.reading
        #expect(reading.counts.first == 1 && reading.counts[4] == 1 && reading.counts.last == 1)
        #expect(abs(reading.sum - 60.0021) < 1e-9)
    }

    @Test func `a histogram's buckets are written as sums up to their bound`() {
        let histogram = Histogram(bounds: [0.5, 1])
        for value in [0.25, 0.75, 2] { histogram.observe(value) }
        var exposition = Exposition()
        exposition.histogram("wait_seconds", "How long.", [([("pool", "a")], histogram.reading)])
        #expect(
            exposition.text == """
                # HELP wait_seconds How long.
                # TYPE wait_seconds histogram
                wait_seconds_bucket{pool="a",le="0.5"} 1
                wait_seconds_bucket{pool="a",le="1"} 2
                wait_seconds_bucket{pool="a",le="+Inf"} 3
                wait_seconds_sum{pool="a"} 3
                wait_seconds_count{pool="a"} 3

                """)
    }

    @Test func `a label's value cannot end its quotation marks or its line`() {
        var exposition = Exposition()
        exposition.gauge("up", "Up.", [([("name", "a\"b\\c\nd")], 1.5)])
        #expect(exposition.text.hasSuffix(#"up{name="a\"b\\c\nd"} 1.5"# + "\n"))
    }

    @Test func `large counts are written to the last digit`() {
        var exposition = Exposition()
        exposition.counter("calls_total", "Calls.", [([], UInt64.max)])
        #expect(exposition.text.hasSuffix("calls_total 18446744073709551615\n"))
    }
}
