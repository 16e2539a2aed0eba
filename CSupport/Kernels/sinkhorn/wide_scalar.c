#include "wide.h"
#define WIDE_TABLE wide_scalar
#include "wide_body.inc"
