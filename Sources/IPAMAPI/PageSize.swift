/// How many entries a page of a list has (AIP-158).
package enum PageSize {
    package static let standard = 100
    package static let largest = 1000

    /// For a request that asks for so many: the standard where it does not say, the largest where that is more.
    package static func granted(_ asked: Int) -> Int { asked > 0 ? min(asked, largest) : standard }
}
