package import CMessages

/// protoc-c's names, shortened: `Wire.Owner` is the message holdfast.ipam.v1.Owner as a C struct.
package enum Wire {
    package typealias Owner = Holdfast__Ipam__V1__Owner
    package typealias Attachment = Holdfast__Ipam__V1__Attachment
    package typealias Assignment = Holdfast__Ipam__V1__Assignment
    package typealias Route = Holdfast__Ipam__V1__Route
    package typealias DNS = Holdfast__Ipam__V1__DNS
    package typealias Binding = Holdfast__Ipam__V1__Binding
    package typealias BindingEvent = Holdfast__Ipam__V1__BindingEvent
    package typealias AllocateRequest = Holdfast__Ipam__V1__AllocateRequest
    package typealias AllocateResponse = Holdfast__Ipam__V1__AllocateResponse
    package typealias ReleaseRequest = Holdfast__Ipam__V1__ReleaseRequest
    package typealias ReleaseResponse = Holdfast__Ipam__V1__ReleaseResponse
    package typealias TransferRequest = Holdfast__Ipam__V1__TransferRequest
    package typealias TransferResponse = Holdfast__Ipam__V1__TransferResponse
    package typealias GetBindingRequest = Holdfast__Ipam__V1__GetBindingRequest
    package typealias ListBindingsRequest = Holdfast__Ipam__V1__ListBindingsRequest
    package typealias ListBindingsResponse = Holdfast__Ipam__V1__ListBindingsResponse
    package typealias WatchBindingsRequest = Holdfast__Ipam__V1__WatchBindingsRequest
    package typealias BindingCopy = Holdfast__Ipam__V1__BindingCopy
    package typealias RenewCopiesRequest = Holdfast__Ipam__V1__RenewCopiesRequest
    package typealias RenewedCopy = Holdfast__Ipam__V1__RenewedCopy
    package typealias RenewCopiesResponse = Holdfast__Ipam__V1__RenewCopiesResponse
    package typealias Prefix = Holdfast__Ipam__V1__Prefix
    package typealias PrefixUsage = Holdfast__Ipam__V1__PrefixUsage
    package typealias Pool = Holdfast__Ipam__V1__Pool
    package typealias CreatePoolRequest = Holdfast__Ipam__V1__CreatePoolRequest
    package typealias UpdatePoolRequest = Holdfast__Ipam__V1__UpdatePoolRequest
    package typealias GetPoolRequest = Holdfast__Ipam__V1__GetPoolRequest
    package typealias ListPoolsRequest = Holdfast__Ipam__V1__ListPoolsRequest
    package typealias ListPoolsResponse = Holdfast__Ipam__V1__ListPoolsResponse
    package typealias DeletePoolRequest = Holdfast__Ipam__V1__DeletePoolRequest
    package typealias DeletePoolResponse = Holdfast__Ipam__V1__DeletePoolResponse
    package typealias HistoryEntry = Holdfast__Ipam__V1__HistoryEntry
    package typealias ListHistoryRequest = Holdfast__Ipam__V1__ListHistoryRequest
    package typealias ListHistoryResponse = Holdfast__Ipam__V1__ListHistoryResponse
    package typealias BackupRequest = Holdfast__Ipam__V1__BackupRequest
    package typealias BackupPiece = Holdfast__Ipam__V1__BackupPiece
    package typealias RestoreRequest = Holdfast__Ipam__V1__RestoreRequest
    package typealias RestoreResponse = Holdfast__Ipam__V1__RestoreResponse
    package typealias Timestamp = Google__Protobuf__Timestamp
    package typealias Duration = Google__Protobuf__Duration
}
