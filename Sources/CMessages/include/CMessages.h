#include "holdfast/ipam/v1/ipam.pb-c.h"
