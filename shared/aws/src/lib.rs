//! AWS clients: configuration, the unit meter and the fault layer.
