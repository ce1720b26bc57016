//! Headers of package files. Source: rpm.org, "RPM V4 Package format".
