//! Boolean dependencies. Source: rpm.org, "Boolean Dependencies".
