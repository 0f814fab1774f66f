//! scm
