// All of qvlm in one include. The packed kernels alone (qvlm/kernels.h) need none of the rest.
//
// Functions may be called from several threads at once, and objects used from several threads for
// reading, unless a comment says otherwise. Failures are qvlm::Error (error.h).
#pragma once

#include <qvlm/analyze.h>
#include <qvlm/error.h>
#include <qvlm/evaluate.h>
#include <qvlm/gate.h>
#include <qvlm/image.h>
#include <qvlm/kernels.h>
#include <qvlm/plan.h>
#include <qvlm/quantize.h>
#include <qvlm/recipe.h>
#include <qvlm/scheme.h>
#include <qvlm/session.h>
#include <qvlm/threads.h>
#include <qvlm/verify.h>
