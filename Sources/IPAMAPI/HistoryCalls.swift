package import IPAMModel

/// What ListHistory is asked for.
package struct HistoryListing: Hashable, Sendable {
    package var subject: HistorySubject
    /// Only what was so at some time from here on; nil: all that is kept.
    package var from: Timestamp?
    /// Only what was so at this time or earlier.
    package var through: Timestamp?
    /// As granted on the server; 0 from a client that leaves it to the server.
    package var pageSize: Int
    /// Go on with revisions before this one; nil on the first page.
    package var before: UInt64?

    package init(
        subject: HistorySubject, from: Timestamp? = nil, through: Timestamp? = nil, pageSize: Int = 0,
        before: UInt64? = nil
    ) {
        self.subject = subject
        self.from = from
        self.through = through
        self.pageSize = pageSize
        self.before = before
    }
}

package struct HistoryPage: Hashable, Sendable {
    /// Newest first.
    package var entries: [HistoryEntry]
    /// Nil on the last page.
    package var before: UInt64?

    package init(entries: [HistoryEntry], before: UInt64? = nil) {
        self.entries = entries
        self.before = before
    }
}

/// The history as clients ask for it.
package protocol HistoryCalls: Sendable {
    func history(_ listing: HistoryListing, timeout: Duration) async throws(IPAMError) -> HistoryPage
}
