import IPAMModel

/// Swift Testing has an Attachment too.
typealias Attachment = IPAMModel.Attachment
