import Testing

@testable import Telemetry

struct ComplaintTests {
    @Test func `a failure that comes again is told at once, and then once a minute with how many there were`() {
        var complaint = Complaint()
        let start = ContinuousClock.now
        #expect(complaint.count(at: start) == 1)
        for second in 1..<60 { #expect(complaint.count(at: start + .seconds(second)) == nil) }
        #expect(complaint.count(at: start + .seconds(60)) == 60)
        #expect(complaint.count(at: start + .seconds(119)) == nil)
        #expect(complaint.count(at: start + .seconds(3600)) == 2)
    }
}
